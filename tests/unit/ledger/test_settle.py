from __future__ import annotations

import itertools

import pytest

from bzzz.ledger.receive_pack import RefUpdate, Report
from bzzz.ledger.settle import Verdict, settle

EXPECTED, OWN, OTHER, WORK = "1" * 40, "2" * 40, "3" * 40, "4" * 40
REF, HEAD = "refs/bzzz/claims/1", "refs/heads/bzzz/task-1"
CLAIM = RefUpdate(REF, EXPECTED, OWN)
BRANCH = RefUpdate(HEAD, None, WORK)
OK = Report("ok", frozenset({REF, HEAD}), {}, "")
LOST = None


def refused(reason: str, messages: str = "", unpack: str = "ok") -> Report:
    return Report(unpack, frozenset(), {REF: reason, HEAD: reason}, messages)


REPORTS = [
    LOST,
    refused("failed to update ref", "cannot lock ref: is at 3 but expected 1"),
    refused("failed to update ref", "Unable to create 'x.lock': File exists."),
    refused("pre-receive hook declined"),
    refused("unpacker error", unpack="index-pack failed"),
    refused("who knows"),
]


@pytest.mark.parametrize("branch", [None, BRANCH])
def test_a_full_report_wins_without_a_look(branch: RefUpdate | None) -> None:
    assert settle(CLAIM, branch, OK, {}).verdict is Verdict.WON


@pytest.mark.parametrize("report", REPORTS)
def test_what_stands_decides_whatever_was_answered(report: Report | None) -> None:
    assert settle(CLAIM, None, report, {REF: OWN}).verdict is Verdict.WON
    assert settle(CLAIM, None, report, {REF: OTHER}).verdict is Verdict.LOST
    assert settle(CLAIM, None, report, {}).verdict is Verdict.LOST
    assert settle(CLAIM, BRANCH, report, {REF: OWN, HEAD: WORK}).verdict is Verdict.WON
    assert settle(CLAIM, BRANCH, report, {REF: OWN}).verdict is Verdict.BRANCH_ALONE
    assert settle(CLAIM, BRANCH, report, {REF: OTHER, HEAD: WORK}).verdict is Verdict.LOST


def test_winning_is_never_told_unless_the_record_stands() -> None:
    """Exhaustive over reports, standing values and branches: a wrong win is two agents on one task."""
    standing = [None, EXPECTED, OWN, OTHER]
    heads = [None, WORK, OTHER]
    for report, found, head, branch in itertools.product(REPORTS, standing, heads, (None, BRANCH)):
        refs = {ref: value for ref, value in ((REF, found), (HEAD, head)) if value is not None}
        if settle(CLAIM, branch, report, refs).verdict in {Verdict.WON, Verdict.BRANCH_ALONE}:
            assert found == OWN
        if found == EXPECTED:
            assert settle(CLAIM, branch, report, refs).verdict is not Verdict.LOST, "it may still be carried out"


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        (REPORTS[0], Verdict.AGAIN),
        (REPORTS[1], Verdict.AGAIN),
        (REPORTS[2], Verdict.LOCKED),
        (REPORTS[3], Verdict.REFUSED),
        (REPORTS[4], Verdict.FAULTY),
        (REPORTS[5], Verdict.AGAIN),
    ],
)
def test_where_the_ref_has_not_moved_the_reason_decides(report: Report | None, verdict: Verdict) -> None:
    assert settle(CLAIM, None, report, {REF: EXPECTED}).verdict is verdict


def test_objects_that_the_server_will_never_take_are_refused() -> None:
    report = refused(
        "unpacker error", "fatal: pack exceeds maximum allowed size", unpack="index-pack abnormal exit"
    )
    assert settle(CLAIM, None, report, {REF: EXPECTED}).verdict is Verdict.REFUSED


def test_a_lock_that_stays_is_told_with_its_file() -> None:
    decision = settle(CLAIM, None, REPORTS[2], {REF: EXPECTED})
    assert f"delete {REF}.lock" in decision.reason


@pytest.mark.parametrize(
    ("refs", "verdict", "text"),
    [
        ({HEAD: OTHER}, Verdict.REFUSED, "other content"),
        ({HEAD: WORK}, Verdict.BRANCH_THERE, ""),
        ({"refs/heads/bzzz": OTHER}, Verdict.REFUSED, "a branch named 'bzzz' blocks"),
        ({f"{HEAD}/x": OTHER}, Verdict.REFUSED, f"{HEAD}/x blocks {HEAD}"),
        ({"refs/heads/bzzz-else": OTHER}, Verdict.AGAIN, ""),
    ],
)
def test_what_is_in_a_branchs_way_is_named(refs: dict[str, str], verdict: Verdict, text: str) -> None:
    decision = settle(CLAIM, BRANCH, REPORTS[5], {REF: EXPECTED, **refs})
    assert decision.verdict is verdict
    assert text in decision.reason


def test_a_rescues_name_that_is_taken_is_lost_and_the_same_work_there_is_won() -> None:
    rescue = RefUpdate("refs/bzzz/rescue/1/1", None, WORK)
    assert settle(None, rescue, LOST, {rescue.ref: OTHER}).verdict is Verdict.LOST
    assert settle(None, rescue, LOST, {rescue.ref: WORK}).verdict is Verdict.WON
    assert settle(None, rescue, LOST, {}).verdict is Verdict.AGAIN


def test_half_of_a_push_shows_a_server_that_is_not_atomic() -> None:
    half = Report("ok", frozenset({HEAD}), {REF: "failed to update ref"}, "")
    decision = settle(CLAIM, BRANCH, half, {REF: OTHER, HEAD: WORK})
    assert decision.verdict is Verdict.REFUSED
    assert "does not push atomically" in decision.reason
