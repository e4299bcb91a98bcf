"""A holder: attempts, renewals, endings, restarts; no work is lost, and nothing is left behind.

It speaks for bzzz.core.publishing, bzzz.core.recovery and bzzz.core.rescue too.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.one_core import TASK, OneCore, claim_word, of, only, record_of

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.claim import ClaimState
from bzzz.core.message import Availability
from bzzz.core.outcome import Outcome
from bzzz.core.record import ClaimRecord, RecordState


def delivered(node: OneCore) -> None:
    node.answer(only(node.ended(), fx.DeliverWork))


def settled(node: OneCore) -> None:
    """Nothing is left of the task."""
    entry = node.entry
    assert entry.state is ClaimState.IDLE
    assert not node.core.context.active
    assert entry.own is None
    assert entry.pending is None
    assert not entry.running
    for kind in ("renew", "swap", "save", "pull", "check", "recover"):
        assert node.core.context.timers.due_ms((kind, TASK.id)) is None


def test_proved_work_is_delivered_and_gets_its_pull_request_and_only_then_is_forgotten() -> None:
    node = OneCore()
    node.start()
    node.held()
    delivered(node)
    assert not of(node.effects, fx.Forget)
    assert only(node.effects, fx.OpenPull).record.state is RecordState.DELIVERED
    node.step(ev.PullNotFound(TASK.id, "no answer"))
    assert of(node.run(60_000), fx.OpenPull)
    node.step(ev.PullFound(TASK.id, "https://forge.example/1"))
    assert only(node.effects, fx.Forget).epoch == 1
    settled(node)


def test_unproved_work_is_saved_before_the_claim_is_given_back() -> None:
    node = OneCore()
    node.start()
    node.held()
    effects = node.ended(Outcome.CHECK_FAILED)
    assert of(effects, fx.SaveWork)
    assert not of(effects, fx.SwapClaim)
    node.step(ev.WorkNotSaved(TASK.id, 1, "away"))
    assert not of(node.effects, fx.SwapClaim)
    assert of(node.run(60_000), fx.SaveWork)
    release = only(node.step(ev.WorkSaved(TASK.id, 1, "refs/bzzz/rescue/7/1")), fx.SwapClaim)
    assert release.record.state is RecordState.RELEASED
    assert release.record.strikes == 1
    node.answer(release)
    assert only(node.effects, fx.Forget)
    settled(node)


def test_work_that_the_server_will_never_take_stays_on_the_disk() -> None:
    node = OneCore()
    node.start()
    node.held()
    node.ended(Outcome.CHECK_FAILED)
    release = only(node.step(ev.WorkNotSaved(TASK.id, 1, "refused", final=True)), fx.SwapClaim)
    node.answer(release)
    assert not of(node.effects, fx.Forget)
    settled(node)


def test_a_late_answer_about_earlier_work_does_not_let_later_work_be_forgotten() -> None:
    node = OneCore()
    node.start()
    node.held()
    node.ended(Outcome.CHECK_FAILED)
    release = only(node.step(ev.WorkSaved(TASK.id, 1, "refs/1")), fx.SwapClaim)
    node.answer(release)
    effects = node.run(120_000)
    assert of(effects, fx.ConfirmTask)
    node.answer(only(node.confirm(), fx.SwapClaim))
    assert node.state is ClaimState.HELD
    assert of(node.ended(Outcome.CHECK_FAILED), fx.SaveWork)[0].epoch == 2
    assert not node.step(ev.WorkSaved(TASK.id, 1, "refs/1")), "an answer about epoch 1"
    assert node.entry.saved_ref is None


def test_work_is_saved_once_however_many_answers_come_meanwhile() -> None:
    node = OneCore()
    node.start()
    node.held()
    saves = of(node.ended(Outcome.CHECK_FAILED), fx.SaveWork)
    renewal = only(node.run(node.policy.renew_interval_ms), fx.SwapClaim)
    saves += of(node.answer(renewal), fx.SaveWork)
    assert len(saves) == 1


def test_work_saved_while_a_renewal_is_under_way_is_remembered() -> None:
    node = OneCore()
    node.start()
    node.held()
    node.ended(Outcome.CHECK_FAILED)
    renewal = only(node.run(node.policy.renew_interval_ms), fx.SwapClaim)
    node.step(ev.WorkSaved(TASK.id, 1, "refs/1"))
    assert only(node.answer(renewal), fx.SwapClaim).record.state is RecordState.RELEASED


@pytest.mark.parametrize(
    ("outcome", "strikes"),
    [
        (Outcome.CHECK_FAILED, 1),
        (Outcome.NO_CHANGE, 1),
        (Outcome.CRASHED, 1),
        (Outcome.OUT_OF_BUDGET, 1),
        (Outcome.NEEDS_HELP, 1),
        (Outcome.RATE_LIMITED, 0),
        (Outcome.SERVICE_FAILED, 0),
        (Outcome.AGENT_MISSING, 0),
        (Outcome.STOPPED, 0),
    ],
)
def test_each_outcome_costs_what_it_should_and_none_is_tried_again_at_once(outcome: Outcome, strikes: int) -> None:
    node = OneCore()
    node.start()
    node.held()
    release = only(node.ended(outcome, has_work=False), fx.SwapClaim)
    assert release.record.strikes == strikes
    assert release.record.state is RecordState.RELEASED
    node.answer(release)
    assert not of(node.run(node.policy.attempt_backoff_ms - 1_000), fx.ConfirmTask)


def test_the_third_failed_attempt_asks_a_person_and_nobody_takes_it_again() -> None:
    node = OneCore()
    node.start()
    before = record_of("other", 1)
    assert node.ledger.swap(None, before, "other").won
    standing = node.ledger.read(TASK.id)
    assert standing is not None
    released = replace(before, state=RecordState.RELEASED, strikes=2, nonce="r")
    assert node.ledger.swap(standing.version, released, "other").won
    node.answer(node.claiming())
    write = only(node.ended(Outcome.CHECK_FAILED, has_work=False), fx.SwapClaim)
    assert write.record.state is RecordState.ESCALATED
    node.answer(write)
    assert only(node.effects, fx.Report).kind == "escalated"
    node.listed()
    assert not of(node.effects + node.run(10**7), fx.ConfirmTask)


def test_proved_without_a_commit_is_no_proof() -> None:
    node = OneCore()
    node.start()
    node.held()
    event = ev.AttemptEnded(TASK.id, 1, Outcome.PROVED, "done, it says", False, None)
    assert only(node.step(event), fx.SwapClaim).record.strikes == 1


def test_a_rate_limit_cools_the_whole_node_down() -> None:
    node = OneCore()
    node.start()
    node.held()
    event = ev.AttemptEnded(TASK.id, 1, Outcome.RATE_LIMITED, "429", False, retry_after_ms=900_000)
    node.answer(only(node.step(event), fx.SwapClaim))
    assert not of(node.run(899_000), fx.ConfirmTask)
    assert of(node.run(2_000), fx.ConfirmTask)


def test_a_claim_that_moved_on_stops_the_agent_saves_its_work_and_publishes_nothing() -> None:
    node = OneCore()
    node.start()
    node.held()
    node.other_claims()
    renewal = only(node.run(node.policy.renew_interval_ms), fx.SwapClaim)
    effects = node.answer(renewal)
    assert only(effects, fx.StopAttempt)
    assert node.state is ClaimState.LOSING
    effects = node.ended(Outcome.PROVED)
    assert only(effects, fx.SaveWork)
    assert not of(effects, fx.DeliverWork)
    node.step(ev.WorkSaved(TASK.id, 1, "refs/1"))
    assert only(node.effects, fx.Forget)
    settled(node)


def test_a_delivery_after_a_take_over_is_refused_by_the_ledger_and_the_work_is_saved() -> None:
    node = OneCore()
    node.start()
    node.held()
    write = only(node.ended(), fx.DeliverWork)
    node.other_claims()
    assert only(node.answer(write), fx.SaveWork)
    assert not node.ledger.branches


def test_the_heartbeat_goes_on_whatever_the_agent_does() -> None:
    node = OneCore()
    node.start()
    node.held()
    beats = [one.message for one in of(node.run(300_000), fx.Publish) if isinstance(one.message, Availability)]
    assert len(beats) >= 10
    assert all(beat.tasks == {TASK.id: 1} for beat in beats)


def test_an_issue_closed_while_it_is_claimed_stops_the_attempt_it_began() -> None:
    node = OneCore()
    node.start()
    write = node.claiming()
    node.step(ev.TasksListed("acme/garden", (), ()))
    effects = node.answer(write)
    assert of(effects, fx.StartAttempt)
    assert not only(effects, fx.ConfirmTask).read_claim
    assert only(node.confirm(admitted=False, read_claim=False), fx.StopAttempt)
    release = only(node.ended(Outcome.STOPPED, has_work=False), fx.SwapClaim)
    assert release.record.reason == "closed"
    assert release.record.strikes == 0


def test_an_issue_closed_while_the_claim_is_renewed_is_noticed_all_the_same() -> None:
    node = OneCore()
    node.start()
    node.held()
    node.step(ev.TasksListed("acme/garden", (), ()))
    renewal = only(node.run(node.policy.renew_interval_ms), fx.SwapClaim)
    assert only(node.confirm(admitted=False, read_claim=False), fx.StopAttempt)
    node.ended(Outcome.STOPPED, has_work=False)
    assert only(node.answer(renewal), fx.SwapClaim).record.state is RecordState.RELEASED


def test_a_renewal_that_cannot_be_written_is_tried_again_and_the_agent_goes_on() -> None:
    node = OneCore()
    node.start()
    node.held()
    renewal = only(node.run(node.policy.renew_interval_ms), fx.SwapClaim)
    assert not of(node.answer(renewal, ev.SwapEnd.UNAVAILABLE), fx.StopAttempt)
    assert of(node.run(10_000), fx.SwapClaim)


def test_a_node_that_slept_does_not_take_its_own_deafness_for_anothers_silence() -> None:
    node = OneCore()
    node.start()
    node.meet("paused")
    node.other_claims("paused")
    node.listed()
    node.now_ms += 2 * node.policy.claim_ttl_s * 1_000
    effects = node.step(ev.Ticked()) + node.run(node.policy.objection_wait_ms + 10_000)
    assert not of(effects, fx.ConfirmTask)
    assert node.core.context.counters["late_ticks"] == 1


def test_a_claim_ref_that_was_removed_by_hand_does_not_stop_a_task_and_epochs_go_on() -> None:
    node = OneCore()
    node.start()
    standing = node.other_claims()
    released = replace(standing.record, state=RecordState.RELEASED, nonce="r")
    assert node.ledger.swap(standing.version, released, "other").won
    node.listed()
    node.ledger = type(node.ledger)()
    node.run(5_000)
    write = only(node.confirm(), fx.SwapClaim)
    assert write.expected is None
    assert write.record.epoch == 2


# --- the end of a node ------------------------------------------------------------------------------------


def test_a_node_that_is_stopped_gives_back_what_it_holds_and_then_ends() -> None:
    node = OneCore()
    node.start()
    node.held()
    assert only(node.step(ev.StopAsked()), fx.StopAttempt)
    release = None
    assert of(node.ended(Outcome.STOPPED), fx.SaveWork)
    release = only(node.step(ev.WorkSaved(TASK.id, 1, "refs/1")), fx.SwapClaim)
    assert not of(node.effects, fx.Finish)
    node.answer(release)
    assert of(node.effects, fx.Finish)
    last = [one.message for one in of(node.effects, fx.Publish)][-1]
    assert isinstance(last, Availability)
    assert last.leaving


@pytest.mark.parametrize("moment", ["confirming", "claiming", "renewing", "delivering", "losing", "uncertain"])
def test_a_node_can_be_stopped_at_any_moment(moment: str) -> None:
    node = OneCore()
    node.start()
    write: fx.SwapClaim | fx.DeliverWork | None = None
    if moment == "confirming":
        node.listed()
    elif moment in ("claiming", "uncertain"):
        write = node.claiming()
    else:
        node.held()
    if moment == "renewing":
        write = only(node.run(node.policy.renew_interval_ms), fx.SwapClaim)
    elif moment == "delivering":
        write = only(node.ended(), fx.DeliverWork)
    elif moment == "losing":
        node.other_claims()
        node.answer(only(node.run(node.policy.renew_interval_ms), fx.SwapClaim))
    elif moment == "uncertain":
        assert write is not None
        node.answer(write, ev.SwapEnd.UNCERTAIN)
    effects = list(node.step(ev.StopAsked()))
    if moment == "confirming":
        effects += node.confirm()
    elif moment == "uncertain":
        effects += node.read()
        write = of(node.run(60_000), fx.SwapClaim)[0]
    if write is not None:
        effects += node.answer(write)
    for _ in range(6):
        if node.entry.running:
            effects += node.ended(Outcome.STOPPED)
        if node.entry.saving:
            effects += node.step(ev.WorkSaved(TASK.id, 1, "refs/1"))
        pending = node.entry.pending
        if pending is not None:
            sent = [one for one in effects if isinstance(one, fx.SwapClaim | fx.DeliverWork)]
            effects += node.answer(sent[-1])
    assert of(effects, fx.Finish), node.state
    standing = node.ledger.read(TASK.id)
    assert standing is None or standing.record.state is not RecordState.HELD or moment == "losing"


def test_a_stopped_node_that_cannot_read_what_it_recovered_leaves_it_in_the_journal() -> None:
    node = OneCore()
    node.start(ev.Recovered(TASK, record_of("me"), None, True))
    assert not of(node.step(ev.StopAsked()), fx.Finish)
    effects = node.step(ev.ClaimNotRead(TASK.id, "away"))
    assert of(effects, fx.Finish)
    assert not of(effects, fx.Forget)


# --- a restart --------------------------------------------------------------------------------------------


def earlier(node: OneCore, state: RecordState = RecordState.HELD, *, epoch: int = 1) -> ClaimRecord:
    """What this node wrote in its life before; the ledger has it."""
    record = record_of("me", epoch, incarnation=2)
    assert node.ledger.swap(None, record, "me").won
    if state is not RecordState.HELD:
        standing = node.ledger.read(TASK.id)
        assert standing is not None
        record = replace(record, state=state, nonce="later", branch="b", commit="c")
        if state is RecordState.DELIVERED:
            assert node.ledger.deliver(standing.version, record, "me").won
        else:
            assert node.ledger.swap(standing.version, record, "me").won
    return record


def test_a_claim_that_stands_is_renewed_by_the_new_start_before_anything_else() -> None:
    node = OneCore()
    node.start(ev.Recovered(TASK, earlier(node)))
    effects = node.read()
    renewal = only(effects, fx.SwapClaim)
    assert renewal.record.holder.incarnation == 3
    assert renewal.record.epoch == 1
    assert not of(effects, fx.StartAttempt)
    assert only(node.answer(renewal), fx.StartAttempt)


def test_proved_work_of_an_earlier_start_is_delivered_without_another_attempt() -> None:
    node = OneCore()
    node.start(ev.Recovered(TASK, earlier(node), Outcome.PROVED, True, "c0ffee"))
    effects = node.answer(only(node.read(), fx.SwapClaim))
    assert only(effects, fx.DeliverWork).record.commit == "c0ffee"
    assert not of(effects, fx.StartAttempt)


def test_an_attempt_that_failed_before_the_crash_counts_and_is_not_run_again() -> None:
    node = OneCore()
    node.start(ev.Recovered(TASK, earlier(node), Outcome.CHECK_FAILED, True))
    effects = node.answer(only(node.read(), fx.SwapClaim))
    assert of(effects, fx.SaveWork)
    release = only(node.step(ev.WorkSaved(TASK.id, 1, "refs/1")), fx.SwapClaim)
    assert release.record.strikes == 1


def test_an_attempt_cut_short_by_the_crash_has_its_work_saved_and_is_run_again() -> None:
    node = OneCore()
    node.start(ev.Recovered(TASK, earlier(node), Outcome.CRASHED, True))
    effects = node.answer(only(node.read(), fx.SwapClaim))
    assert of(effects, fx.SaveWork)
    assert not of(effects, fx.StartAttempt)
    assert of(node.step(ev.WorkSaved(TASK.id, 1, "refs/1")), fx.StartAttempt)


def test_a_delivery_before_the_crash_gets_its_pull_request() -> None:
    node = OneCore()
    node.start(ev.Recovered(TASK, earlier(node, RecordState.DELIVERED), Outcome.PROVED, True, "c"))
    assert only(node.read(), fx.OpenPull)


def test_a_delivery_that_lands_after_the_restart_read_the_ledger_is_found() -> None:
    node = OneCore()
    record = earlier(node)
    node.start(ev.Recovered(TASK, record, Outcome.PROVED, True, "c"))
    renewal = only(node.read(), fx.SwapClaim)
    standing = node.ledger.read(TASK.id)
    assert standing is not None
    late = replace(record, state=RecordState.DELIVERED, nonce="late", branch="b", commit="c")
    assert node.ledger.deliver(standing.version, late, "me").won
    assert only(node.answer(renewal), fx.OpenPull)


def test_a_renewal_that_lands_after_the_restart_read_the_ledger_costs_nothing() -> None:
    node = OneCore()
    node.start(ev.Recovered(TASK, earlier(node)))
    renewal = only(node.read(), fx.SwapClaim)
    node.other_renews("late")
    again = only(node.answer(renewal), fx.SwapClaim)
    assert of(node.answer(again), fx.StartAttempt)


def test_a_claim_lost_while_the_node_was_away_has_its_work_saved() -> None:
    node = OneCore()
    record = earlier(node)
    node.other_claims()
    node.start(ev.Recovered(TASK, record, None, True))
    assert only(node.read(), fx.SaveWork).epoch == 1
    node.step(ev.WorkSaved(TASK.id, 1, "refs/1"))
    assert only(node.effects, fx.Forget).epoch == 1
    settled(node)


def test_a_claim_that_was_never_written_is_forgotten() -> None:
    node = OneCore()
    node.start(ev.Recovered(TASK, record_of("me")))
    node.read()
    assert only(node.effects, fx.Forget).epoch == 1
    settled(node)


def test_the_work_of_several_earlier_claims_of_one_task_is_all_saved() -> None:
    node = OneCore()
    first = earlier(node)
    node.other_claims()
    second = record_of("me", 3)
    recovered = [ev.Recovered(TASK, record, None, True) for record in (first, second)]
    node.start(*recovered)
    saved = []
    for _ in range(4):
        if of(node.effects, fx.ReadClaim):
            node.read()
        for save in of(node.effects, fx.SaveWork):
            saved.append(save.epoch)
            node.step(ev.WorkSaved(TASK.id, save.epoch, f"refs/{save.epoch}"))
    assert saved == [3, 1]
    settled(node)


def test_a_restart_lists_its_task_before_it_has_read_the_ledger() -> None:
    """Otherwise the others would take it over: back with a higher incarnation, and without the task."""
    node = OneCore()
    node.start(ev.Recovered(TASK, earlier(node)))
    beats = [one.message for one in of(node.run(1_000), fx.Publish) if isinstance(one.message, Availability)]
    assert beats
    assert all(TASK.id in beat.tasks for beat in beats)


def test_a_place_that_becomes_free_is_used_for_what_waits() -> None:
    node = OneCore(max_tasks=1)
    node.start()
    second = replace(TASK, id=replace(TASK.id, number=8))
    confirming = only(node.listed(TASK, second), fx.ConfirmTask).task
    node.step(ev.TaskConfirmed(confirming, False, "closed"))
    effects = node.effects + node.run(1_000)
    assert [one.task for one in of(effects, fx.ConfirmTask)] != [confirming]


def test_a_claim_heard_of_oneself_is_no_reason_to_stop() -> None:
    node = OneCore()
    node.start()
    node.held()
    node.hear("other", claim_word("me", 1, incarnation=3))
    assert not of(node.effects, fx.StopAttempt)
    assert not of(node.effects, fx.ReadClaim)
