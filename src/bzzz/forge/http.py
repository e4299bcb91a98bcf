"""The only HTTP of the forge clients: sends one request, gives one bounded answer, within one time limit.

Loopback addresses are reached directly; others through the proxies that the environment names. Redirects
are not followed here, and no error message holds a token.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from bzzz.errors import ServiceNonsense, ServiceUnavailable
from bzzz.forge.answer import Response, clean
from bzzz.forge.github import Request

CONNECTIONS_MAX = 20


class HttpSender:
    """Sends requests over kept connections.

    Args:
        timeout_s: for one whole exchange, and for each wait within it.
        body_bytes_max: the largest answer that is read.
    """

    def __init__(self, timeout_s: float, body_bytes_max: int) -> None:
        self._timeout_s = timeout_s
        self._body_bytes_max = body_bytes_max
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def send(self, request: Request, headers: Mapping[str, str], service: str) -> Response:
        """Send ``request`` and read its answer.

        Raises:
            ServiceUnavailable: no answer in time, or no connection.
            ServiceNonsense: the answer is no HTTP, or is larger than ``body_bytes_max``.
        """
        sent = dict(headers)
        content = request.content()
        if content:
            sent["Content-Type"] = "application/json"
        try:
            client = self._client(request.url)
            async with (
                asyncio.timeout(self._timeout_s),
                client.stream(request.method, request.url, headers=sent, content=content or None) as answer,
            ):
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > self._body_bytes_max:
                        raise ServiceNonsense(
                            service,
                            request.what,
                            f"an answer above {self._body_bytes_max} bytes",
                            answer.status_code,
                        )
                found = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status_code, found, bytes(body))
        except (TimeoutError, httpx.TimeoutException):
            raise ServiceUnavailable(service, request.what, f"no answer within {self._timeout_s:g} s") from None
        except (httpx.RemoteProtocolError, httpx.DecodingError) as error:
            raise ServiceNonsense(service, request.what, clean(str(error))) from None
        except httpx.TransportError as error:
            raise ServiceUnavailable(service, request.what, clean(str(error) or type(error).__name__)) from None
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise ServiceUnavailable(service, request.what, f"no address to ask: {clean(str(error))}") from None

    async def close(self) -> None:
        """End all connections."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.aclose()

    def _client(self, url: str) -> httpx.AsyncClient:
        direct = is_loopback(url)
        if direct not in self._clients:
            self._clients[direct] = httpx.AsyncClient(
                timeout=self._timeout_s,
                follow_redirects=False,
                trust_env=not direct,
                limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            )
        return self._clients[direct]


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
