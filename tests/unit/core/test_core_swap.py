"""How a write ends: won, lost, unavailable, uncertain, in every order, and never twice."""

from __future__ import annotations

import itertools

import pytest
from tests.support.one_core import TASK, OneCore, claim_word, of, only

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.claim import ClaimState
from bzzz.core.record import RecordState


def test_a_claim_that_is_won_starts_one_attempt_and_is_told() -> None:
    node = OneCore()
    node.start()
    node.held()
    assert node.state is ClaimState.HELD
    assert [message.message for message in of(node.effects, fx.Publish)]
    assert only(node.effects, fx.Report).kind == "claimed"


def test_what_is_about_to_be_written_is_in_the_journal_first() -> None:
    node = OneCore()
    node.start()
    write = node.claiming()
    kinds = [type(one) for one in node.effects]
    assert kinds.index(fx.Remember) < kinds.index(fx.SwapClaim)
    assert only(node.effects, fx.Remember).record == write.record


def test_a_claim_that_is_lost_forgets_it_and_stands_down() -> None:
    node = OneCore()
    node.start()
    write = node.claiming()
    node.other_claims()
    node.answer(write)
    assert node.state is ClaimState.IDLE
    assert only(node.effects, fx.Forget).epoch == 1
    assert not of(node.run(60_000), fx.ConfirmTask)


@pytest.mark.parametrize("lands", ["at once", "before the reading", "after the reading", "never"])
def test_a_claim_of_unknown_fate_is_read_and_seen_through(lands: str) -> None:
    node = OneCore()
    node.start()
    write = node.claiming()
    if lands == "at once":
        assert node.take(write)
    assert only(node.answer(write, ev.SwapEnd.UNCERTAIN), fx.ReadClaim)
    if lands == "before the reading":
        assert node.take(write)
    effects = node.read()
    if lands in ("after the reading", "never"):
        if lands == "after the reading":
            assert node.take(write)
        again = only(node.run(node.policy.retry_max_ms), fx.SwapClaim)
        assert again == write, "the very same record is sent again"
        effects = node.answer(again)
    assert node.state is ClaimState.HELD
    assert of(effects, fx.StartAttempt)
    assert len(node.ledger.chains[TASK.id]) == 1


def test_a_claim_of_unknown_fate_that_somebody_else_won_is_lost() -> None:
    node = OneCore()
    node.start()
    write = node.claiming()
    node.answer(write, ev.SwapEnd.UNCERTAIN)
    node.other_claims()
    node.read()
    assert node.state is ClaimState.IDLE


def test_a_write_once_uncertain_is_not_given_up_when_the_server_is_away() -> None:
    """It may still land: a claim that nobody works on, by a node that is there, would never end."""
    node = OneCore()
    node.start()
    write = node.claiming()
    node.answer(write, ev.SwapEnd.UNCERTAIN)
    node.read()
    again = only(node.run(node.policy.retry_max_ms), fx.SwapClaim)
    node.answer(again, ev.SwapEnd.UNAVAILABLE)
    assert node.state is ClaimState.CLAIMING
    assert node.take(write), "the first sending lands late"
    effects = node.answer(only(node.run(2 * node.policy.retry_max_ms), fx.SwapClaim))
    assert of(effects, fx.StartAttempt)


def test_a_claim_that_was_surely_not_written_is_given_up_for_a_while() -> None:
    node = OneCore()
    node.start()
    node.answer(node.claiming(), ev.SwapEnd.UNAVAILABLE)
    assert node.state is ClaimState.IDLE
    assert not of(node.run(1_000), fx.ConfirmTask)
    assert of(node.run(10_000), fx.ConfirmTask)


def test_lost_with_ones_own_record_standing_is_won() -> None:
    node = OneCore()
    node.start()
    write = node.claiming()
    assert node.take(write)
    node.step(ev.SwapEnded(TASK.id, write.record.nonce, ev.SwapEnd.LOST, node.ledger.read(TASK.id)))
    assert node.state is ClaimState.HELD


@pytest.mark.parametrize("end", [ev.SwapEnd.WON, ev.SwapEnd.LOST])
def test_an_answer_that_does_not_show_what_stands_is_not_believed(end: ev.SwapEnd) -> None:
    node = OneCore()
    node.start()
    write = node.claiming()
    assert of(node.step(ev.SwapEnded(TASK.id, write.record.nonce, end)), fx.ReadClaim)
    assert node.state is ClaimState.CLAIMING


def test_a_late_answer_to_an_earlier_write_says_nothing() -> None:
    node = OneCore()
    node.start()
    first = node.claiming()
    node.answer(first, ev.SwapEnd.UNAVAILABLE)
    effects = node.run(30_000)
    assert of(effects, fx.ConfirmTask)
    second = only(node.confirm(), fx.SwapClaim)
    assert second.record.nonce != first.record.nonce
    node.step(ev.SwapEnded(TASK.id, first.record.nonce, ev.SwapEnd.WON, None))
    assert node.state is ClaimState.CLAIMING
    assert node.core.context.counters["late_answers"] == 1


def test_a_reading_asked_before_the_write_is_not_taken_for_its_fate() -> None:
    """The reading was answered with what stood before the last renewal; the delivery was not lost."""
    node = OneCore()
    node.start()
    node.held()
    stale = node.ledger.read(TASK.id)
    own = node.entry.own
    assert own is not None
    node.hear("liar", claim_word("liar", own.record.epoch + 1))
    assert of(node.effects, fx.ReadClaim), "somebody speaks of a newer claim: the ledger is asked"
    renewal = only(node.run(node.policy.renew_interval_ms), fx.SwapClaim)
    node.answer(renewal)
    delivery = only(node.ended(), fx.DeliverWork)
    assert node.take(delivery)
    assert not of(node.answer(delivery, ev.SwapEnd.UNCERTAIN), fx.ReadClaim), "one reading at a time"
    assert only(node.step(ev.ClaimRead(TASK.id, stale)), fx.ReadClaim), "the answer is too old: again"
    node.read()
    assert node.state is ClaimState.PUBLISHING


ENDS = (ev.SwapEnd.UNCERTAIN, ev.SwapEnd.UNAVAILABLE, ev.SwapEnd.LOST, ev.SwapEnd.WON)


@pytest.mark.parametrize("ends", list(itertools.product(ENDS, repeat=3)))
def test_a_delivery_ends_rightly_after_any_three_answers(ends: tuple[ev.SwapEnd, ...]) -> None:
    """Each answer is as truthful as its kind promises; the ledger takes the write at the last moment it can."""
    node = OneCore()
    node.start()
    node.held()
    write = only(node.ended(), fx.DeliverWork)
    for end in ends:
        if node.state is not ClaimState.DELIVERING:
            break
        if end in (ev.SwapEnd.WON, ev.SwapEnd.LOST):
            if end is ev.SwapEnd.LOST:
                node.other_claims()
            node.answer(write)
            break
        node.answer(write, end)
        for _ in range(5):
            if of(node.effects, fx.ReadClaim):
                node.read()
            if of(node.effects, fx.DeliverWork):
                break
            node.run(node.policy.retry_max_ms)
        assert of(node.effects, fx.DeliverWork) == [write], "the very same write is sent again"
    standing = node.ledger.read(TASK.id)
    assert standing is not None
    delivered = standing.record.state is RecordState.DELIVERED
    if delivered:
        assert node.state is ClaimState.PUBLISHING
    elif ev.SwapEnd.LOST in ends and ev.SwapEnd.WON not in ends[: ends.index(ev.SwapEnd.LOST)]:
        assert node.state is ClaimState.LOSING
        assert only(node.effects, fx.SaveWork).epoch == 1
    else:
        assert node.state is ClaimState.DELIVERING
    assert len(node.ledger.branches) == delivered


def refused_delivery() -> tuple[OneCore, fx.DeliverWork]:
    """A delivery whose answer was lost, and that is refused for good when it is sent again."""
    node = OneCore()
    node.start()
    node.held()
    write = only(node.ended(), fx.DeliverWork)
    node.answer(write, ev.SwapEnd.UNCERTAIN)
    node.read()
    assert of(node.run(node.policy.retry_max_ms), fx.DeliverWork) == [write]
    return node, write


def test_a_delivery_that_landed_unheard_is_not_given_back_when_its_repetition_is_refused_for_good() -> None:
    node, write = refused_delivery()
    assert node.take(write), "the first sending lands late"
    effects = node.answer(write, ev.SwapEnd.REFUSED)
    assert only(effects, fx.ReadClaim)
    assert not of(effects, fx.SaveWork)
    assert only(node.read(), fx.OpenPull).record == write.record
    assert node.state is ClaimState.PUBLISHING


@pytest.mark.parametrize("once_lost", [True, False])
def test_a_delivery_refused_for_good_is_given_back_once_it_was_read_that_it_does_not_stand(once_lost: bool) -> None:
    if once_lost:
        node, write = refused_delivery()
    else:
        node = OneCore()
        node.start()
        node.held()
        write = only(node.ended(), fx.DeliverWork)
    assert only(node.answer(write, ev.SwapEnd.REFUSED), fx.ReadClaim)
    node.step(ev.ClaimNotRead(TASK.id, "away"))
    assert node.state is ClaimState.DELIVERING, "nobody knows"
    assert of(node.run(node.policy.retry_max_ms), fx.ReadClaim)
    assert only(node.read(), fx.SaveWork)
    release = only(node.step(ev.WorkSaved(TASK.id, 1, "refs/1")), fx.SwapClaim)
    assert release.record.state is RecordState.RELEASED
    assert write.record.branch is not None
    assert write.record.branch in (release.record.reason or "")


def test_a_delivery_that_lands_after_its_refusal_was_read_is_published_by_its_holder() -> None:
    node, write = refused_delivery()
    node.answer(write, ev.SwapEnd.REFUSED)
    node.read()
    release = only(node.step(ev.WorkSaved(TASK.id, 1, "refs/1")), fx.SwapClaim)
    assert node.take(write), "the first sending lands later than anything"
    assert only(node.answer(release), fx.OpenPull).record == write.record
    node.step(ev.PullFound(TASK.id, "https://forge.example/1"))
    assert node.state is ClaimState.IDLE


def test_a_claim_of_unknown_fate_is_read_before_its_refusal_is_believed() -> None:
    node = OneCore()
    node.start()
    write = node.claiming()
    node.answer(write, ev.SwapEnd.UNCERTAIN)
    node.read()
    again = only(node.run(node.policy.retry_max_ms), fx.SwapClaim)
    assert node.take(write), "the first sending lands late"
    assert only(node.answer(again, ev.SwapEnd.REFUSED), fx.ReadClaim)
    assert of(node.read(), fx.StartAttempt)


def test_work_whose_branch_is_not_there_though_its_claim_is_delivered_is_saved() -> None:
    """A server that hides work branches moves the claim and refuses the branch."""
    node = OneCore()
    node.start()
    node.held()
    write = only(node.ended(), fx.DeliverWork)
    assert node.take(write)
    node.answer(write, ev.SwapEnd.REFUSED)
    assert only(node.read(), fx.OpenPull)
    effects = node.step(ev.PullNotFound(TASK.id, "no such branch", final=True))
    assert only(effects, fx.SaveWork).epoch == 1
    node.step(ev.WorkNotSaved(TASK.id, 1, "away"))
    assert of(node.run(60_000), fx.SaveWork)
    node.step(ev.WorkSaved(TASK.id, 1, "refs/bzzz/rescue/7/1"))
    assert not of(node.step(ev.PullNotFound(TASK.id, "no such branch", final=True)), fx.SaveWork), "once"
