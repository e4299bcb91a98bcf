"""Who may speak to Hive: the gate before every route, and the check of a webhook's signature.

With keys set (in the key file, or made by ``bzzz hive key``), a request carries one as ``Authorization: Bearer
<key>``, or as the password of HTTP Basic, which is what a browser can send; its role must suffice for the call,
and its rate is limited. With none, only this machine is served; and since a web page that a person opens here
could reach loopback under a name of its own (DNS rebinding), the ``Host`` must then be this machine's too. Keys
are looked up by their digest, so the time that takes says nothing of them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from bzzz.hive.key import LOCAL, Caller, role_needed
from bzzz.hive.keyring import Keyring
from bzzz.hive.rate import RateLimit
from bzzz.ports import Clock

SIGNATURE_HEADER = "x-hub-signature-256"
GITEA_SIGNATURE_HEADER = "x-gitea-signature"
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let in; ``retry_after_s`` is 0 where waiting does not help."""

    status: HTTPStatus
    error: str
    detail: str
    retry_after_s: int = 0


def refuse_stranger(client: str, host: str, own_hosts: frozenset[str]) -> Refusal | None:
    """Decide about one request while no key is set; ``None`` lets it in.

    Args:
        client: the peer's IP address, or empty.
        host: the ``Host`` header.
        own_hosts: host names, without ports, that mean this Hive.
    """
    if not _is_loopback(client):
        detail = "this Hive has no API key set and so serves only its own machine; make one: bzzz hive key create"
        return Refusal(HTTPStatus.FORBIDDEN, "loopback_only", detail)
    name = _host_name(host)
    if not (_is_loopback(name) or name in own_hosts):
        detail = f"the request was sent to the host {name[:80]!r}, which is not this Hive"
        return Refusal(HTTPStatus.FORBIDDEN, "wrong_host", detail)
    return None


def refuse_role(caller: Caller, method: str, path: str) -> Refusal | None:
    """Decide whether a key's role suffices for a call; ``None`` lets it in."""
    needed = role_needed(method, path)
    if caller.role >= needed:
        return None
    detail = f"the key {caller.name!r} has the role {caller.role.word}; this needs {needed.word}"
    return Refusal(HTTPStatus.FORBIDDEN, "forbidden", detail)


def signature_matches(secret: str, body: bytes, signature: str) -> bool:
    """Whether ``X-Hub-Signature-256`` is the HMAC of the body (docs.github.com, "Validating deliveries")."""
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))


def gitea_signature_matches(secret: str, body: bytes, signature: str) -> bool:
    """Whether ``X-Gitea-Signature`` is the HMAC of the body, in hex alone (docs.gitea.com, "Webhooks")."""
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.strip().lower().encode(errors="replace"))


class Gate:
    """ASGI middleware that decides before a byte of a body is read.

    Args:
        app: what is behind it.
        keyring: knows the keys.
        clock: for rates.
        rate: calls of each key.
        wrong_rate: calls with no key or a wrong one, of each address.
        counts: refusals by their short name are counted here.
        own_hosts: see ``refuse_stranger``.
        open_paths: exact paths that have their own check, or need none.
        open_prefixes: mounted applications, which have their own access rules.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keyring: Keyring,
        clock: Clock,
        rate: RateLimit,
        wrong_rate: RateLimit,
        counts: Counter[str],
        own_hosts: frozenset[str],
        open_paths: frozenset[str],
        open_prefixes: Sequence[str],
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._clock = clock
        self._rate = rate
        self._wrong_rate = wrong_rate
        self._counts = counts
        self._own_hosts = own_hosts
        self._open_paths = open_paths
        self._open_prefixes = tuple(prefix.rstrip("/") + "/" for prefix in open_prefixes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, in ASGI's terms."""
        if scope["type"] == "http" and not self._is_open(_path(scope)):
            decided = await self._decide(scope)
            if isinstance(decided, Refusal):
                self._counts[f"refused_{decided.error}"] += 1
                await _answer(decided)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = decided
        await self._app(scope, receive, send)

    async def _decide(self, scope: Scope) -> Caller | Refusal:
        headers = Headers(scope=scope)
        client = (scope.get("client") or ("", 0))[0] or ""
        try:
            if not await self._keyring.in_use():
                return refuse_stranger(client, headers.get("host", ""), self._own_hosts) or LOCAL
            given = given_key(headers.get("authorization", ""))
            caller = None if given is None else await self._keyring.find(given)
        except SQLAlchemyError:
            detail = "Hive's database does not answer, so no key can be checked; try again later"
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "database_unavailable", detail, RETRY_AFTER_S)
        now_ms = self._clock.now_ms()
        if caller is None:
            wait_s = self._wrong_rate.take(client, now_ms)
            if wait_s:
                return _limited(wait_s, "too many calls from your address without a known key")
            detail = "send 'Authorization: Bearer <key>'" if given is None else "this key is not known here"
            return Refusal(HTTPStatus.UNAUTHORIZED, "unauthorized", detail)
        wait_s = self._rate.take(caller.name, now_ms)
        if wait_s:
            return _limited(wait_s, f"too many calls with the key {caller.name!r}")
        return refuse_role(caller, scope["method"], _path(scope)) or caller

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith(self._open_prefixes)


def _limited(wait_s: float, detail: str) -> Refusal:
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, "limited", detail, max(1, math.ceil(wait_s)))


def _path(scope: Scope) -> str:
    # A proxy's prefix stands in both (asgi.readthedocs.io, "HTTP & WebSocket", ``root_path``).
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _answer(refusal: Refusal) -> JSONResponse:
    headers = {}
    if refusal.status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="Hive: any name, and an API key as password", charset="UTF-8"'
    if refusal.retry_after_s:
        headers["Retry-After"] = str(refusal.retry_after_s)
    return JSONResponse({"error": refusal.error, "detail": refusal.detail}, refusal.status, headers)


def host_of(url: str) -> str:
    """The host name in a URL, in lower case; empty if there is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def given_key(authorization: str) -> str | None:
    """The key in an ``Authorization`` header; ``None`` if there is none."""
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
