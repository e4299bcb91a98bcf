"""A connection to a Hive: one bounded HTTP call, or its event stream, with every failure classified.

The only module on a node's side that does HTTP to Hive. No redirect is followed (it would carry the key
elsewhere), no proxy or netrc is read from the environment, and no answer is read past its bound.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from bzzz.errors import ServiceError, ServiceNonsense, ServiceUnavailable, SettingError
from bzzz.hive.answer import Asked, one_line, parse_json, refused
from bzzz.ports import Clock

ANSWER_BYTES_MAX = 16 * 1024 * 1024
REFUSAL_BYTES_MAX = 64 * 1024
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
STREAM_SILENCE_S_MAX = 45.0


class HiveLink:
    """Calls to one Hive.

    Args:
        base_url: where it is, ``http://host:port`` with or without a path.
        key: the API key, or ``None``.
        clock: for a ``Retry-After`` that is a date.
        answer_timeout_s: the longest silence in an answer.
        stream_silence_s_max: the longest silence in the event stream, which sends keep-alive comments.
        answer_bytes_max: the largest answer that is read.

    Raises:
        SettingError: ``base_url`` is no http or https URL, or the key is not ASCII.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None,
        clock: Clock,
        *,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        stream_silence_s_max: float = STREAM_SILENCE_S_MAX,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        self._base_url = _checked_url(base_url)
        if key is not None and not (key.isascii() and key.isprintable()):
            raise SettingError("hive", "key", "...", "printable ASCII")
        self._key = key
        self._clock = clock
        self._answer_bytes_max = answer_bytes_max
        self._stream_timeout = httpx.Timeout(stream_silence_s_max, connect=CONNECT_TIMEOUT_S)
        # Compressed answers are neither asked for nor unpacked: a small one could unpack to any size.
        headers = {"User-Agent": "bzzz", "Accept-Encoding": "identity"} | (
            {"Authorization": f"Bearer {key}"} if key else {}
        )
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(answer_timeout_s, connect=CONNECT_TIMEOUT_S),
            follow_redirects=False,
            trust_env=False,
        )

    @property
    def service(self) -> str:
        """What a person knows this Hive by."""
        return f"Hive {self._base_url}"

    def asked(self, what: str) -> Asked:
        """For the errors about one call."""
        return Asked(self.service, what, self._key)

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One call; gives the answer's JSON.

        Raises:
            ServiceError: any of its kinds.
        """
        asked = self.asked(f"{method} {path}")
        async with self._sent(asked, method, path, None if body is None else dict(body)) as response:
            data = await self._read(asked, response, self._answer_bytes_max)
        return parse_json(asked, data)

    async def stream(self, path: str) -> AsyncGenerator[bytes, None]:
        """The chunks of an event stream, until it ends. The first chunk is empty and means that it is open.

        Raises:
            ServiceError: any of its kinds.
        """
        asked = self.asked(f"GET {path}")
        async with self._sent(asked, "GET", path, None, self._stream_timeout) as response:
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise ServiceNonsense(asked.service, asked.what, f"not an event stream but {one_line(kind)!r}")
            yield b""
            async for chunk in response.aiter_raw():
                yield chunk

    async def close(self) -> None:
        """Release the connections; calls under way fail."""
        await self._client.aclose()

    @asynccontextmanager
    async def _sent(
        self,
        asked: Asked,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        timeout: httpx.Timeout | None = None,
    ) -> AsyncIterator[httpx.Response]:
        more: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        request = self._client.build_request(method, self._base_url + path, json=body, **more)
        try:
            response = await self._client.send(request, stream=True)
            try:
                if not response.is_success:
                    data = await self._read(asked, response, REFUSAL_BYTES_MAX, cut=True)
                    raise _refusal(asked, response, data, self._clock.wall_s())
                yield response
            finally:
                await response.aclose()
        except httpx.TimeoutException as error:
            raise ServiceUnavailable(asked.service, asked.what, _named(error, "no answer in time")) from None
        except (httpx.RemoteProtocolError, httpx.DecodingError) as error:
            raise _broken(asked, error) from None
        except httpx.HTTPError as error:
            raise ServiceUnavailable(asked.service, asked.what, _named(error, "")) from None

    @staticmethod
    async def _read(asked: Asked, response: httpx.Response, bytes_max: int, *, cut: bool = False) -> bytes:
        data = bytearray()
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > bytes_max:
                if cut:
                    return bytes(data[:bytes_max])
                raise ServiceNonsense(asked.service, asked.what, f"the answer is above {bytes_max} bytes")
        return bytes(data)


def _refusal(asked: Asked, response: httpx.Response, data: bytes, wall_s: float) -> ServiceError:
    error = refused(asked, response.status_code, response.headers, data, wall_s)
    if response.is_redirect:
        place = one_line(response.headers.get("location", ""), asked.secret)
        return ServiceNonsense(asked.service, asked.what, f"it points to {place!r}", response.status_code)
    assert error is not None  # noqa: S101 - the caller saw that it is not a success
    return error


def _broken(asked: Asked, error: httpx.HTTPError) -> ServiceError:
    text = str(error)
    if "disconnected" in text or "incomplete" in text or "closed" in text:
        return ServiceUnavailable(asked.service, asked.what, one_line(text))
    return ServiceNonsense(asked.service, asked.what, f"not HTTP: {one_line(text)}")


def _named(error: httpx.HTTPError, default: str) -> str:
    return one_line(str(error)) or default or type(error).__name__


def _checked_url(base_url: str) -> str:
    url = base_url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or "@" in parts.netloc or parts.query or parts.fragment or not url.isprintable():
        shown = base_url if "@" not in base_url else "..."
        raise SettingError("hive", "base_url", shown, "http://HOST:PORT, without user name and password")
    return url
