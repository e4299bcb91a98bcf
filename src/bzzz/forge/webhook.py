"""Webhooks in: is this delivery really from the forge, and is it the first time? Pure.

GitHub signs the exact bytes of the body: ``X-Hub-Signature-256: sha256=<HMAC-SHA-256 in hex>``, and names
each delivery with an ``X-GitHub-Delivery`` id. A delivery is a hint to look; it is never believed further.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from bzzz.errors import PeerError

BODY_BYTES_MAX = 25 * 1024 * 1024
"""GitHub's own bound for a payload."""

DELIVERY_ID_CHARS_MAX = 100
EVENTS = frozenset({"issues", "issue_comment", "pull_request", "push", "ping"})


@dataclass(frozen=True, slots=True)
class Delivery:
    """One authentic delivery, reduced to what a watcher needs."""

    id: str
    event: str
    repository: str
    action: str = ""
    number: int | None = None


def sign(secret: str, body: bytes) -> str:
    """The signature header's value for ``body``."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verify(secret: str, body: bytes, signature: str | None) -> bool:
    """Whether ``signature`` is right, in a time that does not tell how wrong; an empty secret never is."""
    given = (signature or "").strip().encode("utf-8", "replace")
    return hmac.compare_digest(sign(secret, body).encode(), given) and bool(secret)


@dataclass(slots=True)
class Replays:
    """Remembers the last deliveries, by id and by body; ``forgotten`` counts those that made room.

    The id stands in a header that no signature covers, so a replay could carry a new one: the body counts too.
    """

    deliveries_max: int = 10_000
    forgotten: int = 0
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict, repr=False)

    def first(self, delivery_id: str, body: bytes) -> bool:
        """Whether neither this id nor this body came before; both are remembered."""
        keys = (f"id {delivery_id}", f"body {hashlib.sha256(body).hexdigest()}")
        if any(key in self._seen for key in keys):
            return False
        self._seen.update(dict.fromkeys(keys))
        while len(self._seen) > 2 * self.deliveries_max:
            self._seen.popitem(last=False)
            self.forgotten += 1
        return True


def receive(secret: str, headers: Mapping[str, str], body: bytes, replays: Replays) -> Delivery:
    """Check and read one delivery; header names may have any case.

    Raises:
        PeerError: ``webhook_too_large``, ``webhook_unsigned``, ``webhook_replayed`` or ``webhook_malformed``.
    """
    if len(body) > BODY_BYTES_MAX:
        raise PeerError("webhook_too_large", f"{len(body)} bytes, above {BODY_BYTES_MAX}")
    found = {name.lower(): value for name, value in headers.items()}
    if not verify(secret, body, found.get("x-hub-signature-256")):
        raise PeerError(
            "webhook_unsigned", "its signature is missing or wrong; do both sides have the same secret?"
        )
    delivery_id, event = found.get("x-github-delivery", ""), found.get("x-github-event", "")
    if not delivery_id or len(delivery_id) > DELIVERY_ID_CHARS_MAX or event not in EVENTS:
        raise PeerError("webhook_malformed", "its event or its id is none")
    try:
        value = json.loads(body)
        repository = value["repository"]["full_name"]
        about = value.get("issue") or value.get("pull_request") or {}
        number, action = about.get("number"), value.get("action", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PeerError("webhook_malformed", "its body is not what GitHub describes") from None
    if not isinstance(repository, str) or not isinstance(action, str):
        raise PeerError("webhook_malformed", "its repository is no name")
    if not replays.first(delivery_id, body):
        raise PeerError("webhook_replayed", f"delivery {delivery_id!r} came before")
    return Delivery(delivery_id, event, repository, action, number if isinstance(number, int) else None)
