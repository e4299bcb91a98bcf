"""What to make of a push: won, lost, refused, or push the same again.

Pure; the one place where a claim's fate is decided from what the server said and what stands there.

**What stands decides, not what was answered.** A report that every command was carried out is proof. Without
it the ref is read, because an answer can be lost after the push was carried out, a proxy may have sent the
request twice (the second is refused although the first won), and a reason is free text.

**A push whose answer was lost may still be on its way, and pushing the same again is the remedy.** Say the
ref still stands at the expected value. The first request may yet be carried out; giving up now and telling
"not won" would let the caller move on while its record appears later. But a record's version is a function
of the record and its parent (``link``), so a second push of the same record is the *same* write:

- it is carried out first: it stands, and the first, if it still arrives, is refused, for its old value is gone;
- the first is carried out first: the second is refused, and the ref is found at the own version: won;
- another's record came first: both are refused, for good: a version holds the hash of the one before it
  and refs are never deleted, so the expected value never stands again.

So after every repetition the outcome is one and the same, and repeating settles it. If the repetitions end
without an answer, ``LedgerUncertain`` says that the record may stand, now or later. Likewise, once one
answer was lost, a later refusal for another reason (401, a hook) says nothing of the first request.

Found at another version than the expected and the own: lost, for the reasons above (or won and already
followed by another's record, which for the caller is the same: what it wrote does not stand). This rests on reads
that show what the last write did. From a server whose reads lag behind, a won claim could be told as lost,
which costs time until its holder reads it again, but never gives one task to two.

**A lock that does not go away.** A writer that is at work holds the ref's lock for milliseconds, and the ref
is then found moved. A lock that stays while the ref does not move was left by a server that was killed.

**A delivery** is one atomic push of two commands. A git server renames one ref after the other, so one that
is killed in between leaves the claim delivered and the branch not made; the branch is then made alone, which
is safe: the ``delivered`` record in the chain is the holder's, and no one else may deliver for its epoch.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from bzzz.ledger.link import RESCUES
from bzzz.ledger.receive_pack import RefUpdate, Refusal, Report, classify


class Verdict(enum.Enum):
    """How to go on after a push."""

    WON = "the record stands"
    LOST = "another value stands"
    AGAIN = "push the same again"
    LOCKED = "push the same again, unless that was tried: then a lock file was left"
    BRANCH_ALONE = "the claim stands without its branch: push the branch alone"
    BRANCH_THERE = "the branch is there with this very commit: push with that as its old value"
    REFUSED = "pushing again does not help"
    FAULTY = "the server could not store the objects"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, and for a person why and what to do."""

    verdict: Verdict
    reason: str = ""


def settle(
    claim: RefUpdate | None, branch: RefUpdate | None, report: Report | None, refs: Mapping[str, str]
) -> Decision:
    """Decide from what was pushed, the report (``None``: the answer was lost) and the refs that stand now.

    ``claim`` is ``None`` for a push that is fenced by no claim (rescued work, where a name that is taken is
    lost and the next one is tried, or a branch alone); ``refs`` holds at least the refs that were pushed,
    and those under or above the branch's name.
    """
    if report is not None and report.stands([update for update in (claim, branch) if update]):
        return Decision(Verdict.WON)
    made = branch is None or refs.get(branch.ref) == branch.new
    if claim is not None:
        standing = refs.get(claim.ref)
        if standing == claim.new:
            return Decision(Verdict.WON if made else Verdict.BRANCH_ALONE)
        if standing != claim.old:
            if report is not None and branch is not None and branch.ref in report.accepted:
                return Decision(Verdict.REFUSED, _NOT_ATOMIC.format(branch=branch.ref))
            return Decision(Verdict.LOST)
    elif made:
        return Decision(Verdict.WON)
    elif branch is not None and branch.ref.startswith(RESCUES) and branch.ref in refs:
        return Decision(Verdict.LOST)
    if branch is not None and (decision := _look_at_branch(branch, refs)):
        return decision
    if report is None:
        return Decision(Verdict.AGAIN, "the answer was lost")
    return _read_refusal(claim or branch, report)


_NOT_ATOMIC = (
    "the server made the branch {branch} although the claim had moved: it does not push atomically. "
    "Compare that branch with the claim's history before merging it"
)


def _look_at_branch(branch: RefUpdate, refs: Mapping[str, str]) -> Decision | None:
    standing = refs.get(branch.ref)
    if standing == branch.new and branch.old != branch.new:
        return Decision(Verdict.BRANCH_THERE)
    if standing is not None and standing != branch.old:
        return Decision(
            Verdict.REFUSED,
            f"{branch.ref} exists already with other content ({standing[:12]}); delete or rename it on the server",
        )
    parts = branch.ref.split("/")
    for count in range(3, len(parts)):
        above = "/".join(parts[:count])
        if above in refs:
            name = above.removeprefix("refs/heads/")
            return Decision(
                Verdict.REFUSED,
                f"a branch named {name!r} blocks {branch.ref}: git keeps no branch below the name of another; "
                f"rename the branch {name!r} on the server",
            )
    below = next((ref for ref in refs if ref.startswith(branch.ref + "/")), None)
    if below is not None:
        return Decision(Verdict.REFUSED, f"{below} blocks {branch.ref}: delete or rename it on the server")
    return None


def _read_refusal(update: RefUpdate | None, report: Report) -> Decision:
    said = " ".join(part for part in (*report.refusals.values(), report.messages) if part)
    if report.unpack != "ok":
        said = f"{report.unpack} {report.messages}".strip()
        low = said.lower()
        if "maximum allowed" in low or "fsck" in low or "too large" in low:
            return Decision(Verdict.REFUSED, f"the server does not take the objects: {said}")
        return Decision(Verdict.FAULTY, f"the server could not store the objects: {said}")
    # The most telling reason of all commands counts: an atomic push gives every one the same empty words.
    kinds = {classify(reason, report.messages) for reason in report.refusals.values()}
    if Refusal.POLICY in kinds:
        return Decision(Verdict.REFUSED, f"the server's rules forbid it: {said}")
    if Refusal.BLOCKED in kinds:
        return Decision(Verdict.REFUSED, f"another ref is in the way: {said}; rename it on the server")
    if any("missing necessary objects" in reason for reason in report.refusals.values()):
        return Decision(Verdict.REFUSED, f"the server lacks a commit that this builds on: {said}")
    if Refusal.LOCKED in kinds:
        ref = update.ref if update else "the ref"
        return Decision(
            Verdict.LOCKED,
            f"{ref} does not move and stays locked: a git server that was killed probably left a lock file; "
            f"delete {ref}.lock in the server's repository when no git runs there: {said}",
        )
    return Decision(Verdict.AGAIN, said or "the server gave no reason")
