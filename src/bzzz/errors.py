"""Every exception that Bzzz raises on purpose, arranged by who is to blame.

A person reads these messages, so each one says what was wrong, where, and what to do::

    BzzzError
    +-- UsageError             whoever runs Bzzz here: a setting, a flag, a file
    |   +-- SettingError       one setting, named with its file, key, value and what is allowed
    +-- PeerError              another node on the mesh sent what it must not
    +-- TransportError         the mesh engine on this machine cannot do what was asked
    |   +-- PayloadTooLarge    a message above the transport's own bound
    |   +-- RequestFailed      a peer did not answer a request, or not in time
    +-- ServiceError           a forge or a Hive (the ``service`` field names it)
    |   +-- ServiceUnavailable no answer: refused, timed out, cut off
    |   +-- ServiceFaulty      it answered 5xx
    |   +-- ServiceDenied      401 or 403: the token is wrong or may not do this
    |   +-- ServiceMissing     404 or 410: what was named is not there
    |   +-- ServiceLimited     429, or a secondary limit: try again after ``retry_after_s``
    |   +-- ServiceConflict    409 or 422: the state there forbids it
    |   +-- ServiceNonsense    an answer that is not what its protocol describes
    +-- LedgerError            the claim ledger of one repository
    |   +-- LedgerRefused      the git server refuses for a reason that a retry does not mend
    |   +-- LedgerUncertain    a write was sent and neither its answer nor the ref could be read
    +-- ClaimLost              the claim moved on; the work must not be published
    +-- IllegalTransition      a state machine met an event that its table does not allow (a bug here)
    +-- AgentError             a coding agent or its sandbox could not be run
"""

from __future__ import annotations


class BzzzError(Exception):
    """Base of all; ``str()`` of any of them is one line fit to show a user."""


class UsageError(BzzzError):
    """Whoever runs Bzzz on this machine asked for something impossible."""


class SettingError(UsageError):
    """One setting is wrong.

    Args:
        where: the file, environment variable or flag that holds it.
        key: the setting's dotted name.
        value: what was found there; shortened, and never a secret's value.
        allowed: what would have been right, in words.
    """

    def __init__(self, where: str, key: str, value: object, allowed: str) -> None:
        shown = repr(value)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"{where}: {key} = {shown} is not allowed; {allowed}")
        self.where = where
        self.key = key
        self.value = value
        self.allowed = allowed


class PeerError(BzzzError):
    """A peer sent something that must be dropped; ``reason`` is the counter's short name."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class TransportError(BzzzError):
    """The mesh engine on this machine cannot do what was asked."""


class PayloadTooLarge(TransportError):
    """A message above ``payload_bytes_max``: the engine would lose it without a word."""

    def __init__(self, size_bytes: int, bytes_max: int) -> None:
        super().__init__(
            f"a message of {size_bytes} bytes is above the mesh's limit of {bytes_max}; "
            "send what is larger over a stream"
        )
        self.size_bytes = size_bytes
        self.bytes_max = bytes_max


class RequestFailed(TransportError):
    """A request to a peer got no good answer; whether the peer acted on it is not known.

    Args:
        reason: its short name, as it is counted: ``unconnected``, ``timeout``, ``unserved``, ``busy``, ``failed``,
            ``crowded``, ``malformed``, ``oversized`` or ``cut``.
        peer: who was asked.
        detail: what is known of why.
    """

    def __init__(self, reason: str, peer: str, detail: str = "") -> None:
        super().__init__(f"peer {peer} did not answer ({reason}){f': {detail}' if detail else ''}")
        self.reason = reason
        self.peer = peer


class ServiceError(BzzzError):
    """A forge or a Hive did not do what was asked.

    Args:
        service: which one, as a person knows it (``"forge github.com"``, ``"Hive http://..."``).
        what: what was asked of it.
        detail: what it answered, shortened and with secrets removed.
        status: the HTTP status, where there was one.
    """

    advice = ""

    def __init__(self, service: str, what: str, detail: str = "", status: int | None = None) -> None:
        text = f"{service}: {what}"
        if status is not None:
            text += f" was answered {status}"
        if detail:
            text += f": {detail}"
        if self.advice:
            text += f" ({self.advice})"
        super().__init__(text)
        self.service = service
        self.what = what
        self.detail = detail
        self.status = status


class ServiceUnavailable(ServiceError):
    """No answer at all."""

    advice = "it is away, or the address is wrong"


class ServiceFaulty(ServiceError):
    """It answered 5xx: the fault is there."""

    advice = "the fault is on its side"


class ServiceDenied(ServiceError):
    """401 or 403."""

    advice = "check that the token is right and may read and write here"


class ServiceMissing(ServiceError):
    """404 or 410; GitHub also answers 404 where a token may not look."""

    advice = "check the name, and that the token may see it"


class ServiceLimited(ServiceError):
    """429 or a secondary rate limit."""

    advice = "waiting as long as it asks"

    def __init__(
        self,
        service: str,
        what: str,
        detail: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(service, what, detail, status)
        self.retry_after_s = retry_after_s


class ServiceConflict(ServiceError):
    """409 or 422: the state there forbids it."""


class ServiceNonsense(ServiceError):
    """An answer that is not what its protocol describes."""

    advice = "is this the right address?"


class LedgerError(BzzzError):
    """The claim ledger of one repository."""


class LedgerRefused(LedgerError):
    """The git server refuses for a reason that trying again does not mend."""


class LedgerUncertain(LedgerError):
    """A write was sent and its fate is unknown: read the ref before deciding anything."""


class ClaimLost(BzzzError):
    """The claim has moved on: stop, save the work, publish nothing."""


class IllegalTransition(BzzzError):
    """A state machine met an event that its table does not allow: a bug in Bzzz itself."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"{machine}: {event} is not allowed in {state}")
        self.machine = machine
        self.state = state
        self.event = event


class AgentError(BzzzError):
    """A coding agent, its work tree or its sandbox could not be run."""
