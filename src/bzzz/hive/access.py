"""Who may speak to Hive: the gate before every route, and the check of a webhook's signature.

With keys set, a request carries one as ``Authorization: Bearer <key>`` (or as the password of HTTP Basic, which
is what a browser can send). With none, only this machine is served; and since a web page that a person opens
here could reach loopback under a name of its own (DNS rebinding), the ``Host`` must then be this machine's
too. Keys are compared in constant time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

SIGNATURE_HEADER = "x-hub-signature-256"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let in."""

    status: HTTPStatus
    error: str
    detail: str


def refuse(
    authorization: str, client: str, host: str, keys: Sequence[str], own_hosts: frozenset[str]
) -> Refusal | None:
    """Decide about one request; ``None`` lets it in.

    Args:
        authorization: the header of that name, or empty.
        client: the peer's IP address, or empty.
        host: the ``Host`` header.
        keys: the keys in force; empty means that only loopback is served.
        own_hosts: host names, without ports, that mean this Hive.
    """
    if not keys:
        if not _is_loopback(client):
            detail = "this Hive has no API key set and so serves only its own machine; set hive.key_file"
            return Refusal(HTTPStatus.FORBIDDEN, "loopback_only", detail)
        name = _host_name(host)
        if not (_is_loopback(name) or name in own_hosts):
            detail = f"the request was sent to the host {name[:80]!r}, which is not this Hive"
            return Refusal(HTTPStatus.FORBIDDEN, "wrong_host", detail)
        return None
    given = _given_key(authorization)
    if given is None:
        return Refusal(HTTPStatus.UNAUTHORIZED, "unauthorized", "send 'Authorization: Bearer <key>'")
    # All keys are compared, whichever matches, so that the time says nothing.
    digest = hashlib.sha256(given.encode(errors="replace")).digest()
    matches = [hmac.compare_digest(digest, hashlib.sha256(key.encode()).digest()) for key in keys]
    if not any(matches):
        return Refusal(HTTPStatus.UNAUTHORIZED, "unauthorized", "this key is not known here")
    return None


def signature_matches(secret: str, body: bytes, signature: str) -> bool:
    """Whether ``X-Hub-Signature-256`` is the HMAC of the body (docs.github.com, "Validating deliveries")."""
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))


class Gate:
    """ASGI middleware that asks ``refuse`` before a byte of a body is read.

    Args:
        app: what is behind it.
        keys: see ``refuse``.
        own_hosts: see ``refuse``.
        open_paths: exact paths that have their own check, or need none.
        open_prefixes: mounted applications, which have their own access rules.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Sequence[str],
        own_hosts: frozenset[str],
        open_paths: frozenset[str],
        open_prefixes: Sequence[str],
    ) -> None:
        self._app = app
        self._keys = keys
        self._own_hosts = own_hosts
        self._open_paths = open_paths
        self._open_prefixes = tuple(prefix.rstrip("/") + "/" for prefix in open_prefixes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, in ASGI's terms."""
        if scope["type"] == "http" and not self._is_open(_path(scope)):
            headers = Headers(scope=scope)
            client = scope.get("client") or ("", 0)
            refusal = refuse(
                headers.get("authorization", ""),
                client[0] or "",
                headers.get("host", ""),
                self._keys,
                self._own_hosts,
            )
            if refusal is not None:
                await _answer(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith(self._open_prefixes)


def _path(scope: Scope) -> str:
    # A proxy's prefix stands in both (asgi.readthedocs.io, "HTTP & WebSocket", ``root_path``).
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _answer(refusal: Refusal) -> JSONResponse:
    headers = {}
    if refusal.status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="Hive: any name, and an API key as password", charset="UTF-8"'
    return JSONResponse({"error": refusal.error, "detail": refusal.detail}, refusal.status, headers)


def host_of(url: str) -> str:
    """The host name in a URL, in lower case; empty if there is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _given_key(authorization: str) -> str | None:
    scheme, _, rest = authorization.strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer":
        return rest or None
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def _host_name(host: str) -> str:
    return host_of(f"http://{host}") if host else ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
