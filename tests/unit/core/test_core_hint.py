"""What peers say of claims: it saves asking, it can delay, and it never decides."""

from __future__ import annotations

from dataclasses import replace

from tests.support.one_core import REPOSITORY, TASK, OneCore, claim_word, of, only, record_of

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.claim import ClaimState
from bzzz.core.message import Announced, Discussion, Hint, TaskAnnouncement, TaskClaim, TaskComplete
from bzzz.core.profile import Policy
from bzzz.core.record import RecordState
from bzzz.core.task import Task, TaskId

HOUR_MS = 3_600_000


def announced(*, claim: Hint | None = None, task: Task = TASK, is_open: bool = True) -> TaskAnnouncement:
    return TaskAnnouncement((Announced(task, is_open, claim),))


def test_a_claim_heard_makes_a_node_stand_down_without_asking_anyone() -> None:
    node = OneCore()
    node.start()
    node.meet("other")
    node.hear("other", announced(claim=Hint(1, RecordState.HELD, "other", 1)))
    assert not of(node.run(30_000), fx.ConfirmTask)
    assert not of(node.effects, fx.ReadClaim)


def test_a_claim_heard_while_the_issue_is_read_again_is_not_forgotten() -> None:
    node = OneCore()
    node.start()
    node.listed()
    assert node.state is ClaimState.CONFIRMING
    node.hear("other", claim_word("other", 1))
    assert not of(node.confirm(read_claim=True), fx.SwapClaim)


def test_a_held_task_that_its_holder_lists_no_more_is_read_and_not_guessed_at() -> None:
    node = OneCore()
    node.start()
    node.listed()
    node.confirm(admitted=True)
    node.answer(of(node.effects, fx.SwapClaim)[0], ev.SwapEnd.UNAVAILABLE)
    node.hear("other", claim_word("other", 1))
    effects = node.run(node.policy.hint_ttl_ms + 1)
    assert of(effects, fx.ReadClaim)
    assert not of(effects, fx.SwapClaim)


def test_a_liar_who_never_stops_delays_a_task_and_does_not_block_it() -> None:
    node = OneCore()
    node.start()
    node.hear("liar", announced(claim=Hint(10**6, RecordState.HELD, "nobody", 9)))
    tried_ms = None
    for second in range(1_200):
        work = node.effects + node.run(1_000)
        for effect in work:
            if isinstance(effect, fx.ReadClaim):
                work += node.step(ev.ClaimRead(TASK.id, None))
            if isinstance(effect, fx.ConfirmTask):
                work += node.confirm(read_claim=effect.read_claim)
        if node.state is ClaimState.CLAIMING:
            tried_ms = second * 1_000
            break
        state = list(RecordState)[second % 4]
        node.hear("liar", claim_word("nobody", 10**6 + second, state))
    assert tried_ms is not None
    assert tried_ms <= node.policy.hint_trust_ms + 60_000
    assert node.core.context.counters["hints_refuted"] >= 1


def test_while_a_task_was_lied_about_the_claim_is_read_before_it_is_written() -> None:
    node = OneCore()
    node.start()
    node.hear("liar", announced(claim=Hint(5, RecordState.DELIVERED, "nobody")))
    effects = node.run(node.policy.hint_trust_ms + 1)
    assert of(effects, fx.ReadClaim)
    node.step(ev.ClaimRead(TASK.id, None))
    effects = node.effects + node.run(1)
    assert only(effects, fx.ConfirmTask).read_claim


def test_lies_about_a_held_task_cost_its_holder_a_reading_now_and_then_and_nothing_else() -> None:
    node = OneCore()
    node.start()
    node.held()
    readings = 0
    for second in range(100):
        node.hear("liar", claim_word("liar", 50 + second))
        for effect in node.effects + node.run(1_000):
            if isinstance(effect, fx.ReadClaim):
                readings += 1
                node.read()
    assert node.state is ClaimState.HELD
    assert readings <= 100_000 // node.policy.check_spacing_ms + 1


def test_a_release_that_is_not_true_makes_nobody_write() -> None:
    node = OneCore()
    node.start()
    node.other_claims()
    node.listed()
    node.hear("liar", TaskComplete(TASK.id, Hint(1, RecordState.RELEASED, "other", 1), "x"))
    effects = node.effects + node.run(10_000)
    assert only(effects, fx.ConfirmTask).read_claim
    node.confirm()
    assert node.state is ClaimState.IDLE
    node.hear("liar", TaskComplete(TASK.id, Hint(1, RecordState.RELEASED, "other", 1), "x"))
    assert not of(node.effects + node.run(10_000), fx.ConfirmTask), "once is enough for a while"


def test_a_false_description_is_mended_by_ones_own_reading_of_the_forge() -> None:
    node = OneCore()
    node.start()
    node.hear("liar", announced(task=replace(TASK, labels=("needs-nothing",), updated_at="9999")))
    assert not of(node.run(5_000), fx.ConfirmTask)
    assert of(node.listed() + node.run(5_000), fx.ConfirmTask)


def test_a_node_that_is_not_the_watcher_reads_the_repository_itself_once_in_a_while() -> None:
    """The watcher may be wedged, denied, or a liar."""
    node = OneCore()
    node.start()
    node.listed()
    for number in range(20):
        node.meet(f"other-{number}")
    node.run(1_000)
    assert not node.core.watch.watched[REPOSITORY.key].watching
    readings = 0
    for _ in range(20 * node.policy.audit_interval_ms // 30_000 + 10):
        for number in range(20):
            node.hear(f"other-{number}", claim_word(f"other-{number}", 1))
        for effect in node.run(30_000):
            if isinstance(effect, fx.ListTasks):
                readings += 1
                node.step(ev.TasksNotListed(REPOSITORY.key, "away"))
    assert 1 <= readings <= 3


def test_invented_tasks_do_not_push_out_real_ones() -> None:
    node = OneCore(Policy(tasks_max=10))
    node.start()
    for number in range(100, 200):
        node.hear("liar", announced(task=replace(TASK, id=TaskId(REPOSITORY.key, number))))
    assert len(node.core.context.entries) == 10
    assert node.core.context.counters["dropped_tasks"] == 90
    node.listed()
    assert TASK.id in node.core.context.entries
    assert len(node.core.context.entries) == 10


def test_only_the_holder_can_say_that_its_pull_request_stands() -> None:
    node = OneCore()
    node.start()
    delivered = node.other_claims()
    record = replace(delivered.record, state=RecordState.DELIVERED, branch="b", commit="c", nonce="d")
    assert node.ledger.deliver(delivered.version, record, "other").won
    node.listed()
    hint = Hint(1, RecordState.DELIVERED, "other", 1)
    node.hear("liar", TaskComplete(TASK.id, hint, "x", "b", "https://lie.example"))
    node.run(60_000)
    assert only(node.listed(), fx.OpenPull).record == record
    node.step(ev.PullFound(TASK.id, "https://forge.example/1"))
    node.run(1_000)
    assert not of(node.listed(), fx.OpenPull)


def test_silence_is_not_taken_for_death_before_others_were_asked() -> None:
    node = OneCore()
    node.start()
    node.other_claims("stranger")
    node.listed()
    effects = node.run(node.policy.claim_ttl_s * 1_000)
    assert not of(effects, fx.ConfirmTask)
    asked = [one.message for one in of(effects, fx.Publish) if isinstance(one.message, Discussion)]
    assert asked[0].kind == "coordination_request"
    assert asked[0].data["node_id"] == "stranger"
    effects = node.run(node.policy.objection_wait_ms)
    assert of(effects, fx.ConfirmTask), "nobody objected"


def test_whoever_has_a_sign_of_the_holders_life_objects_and_that_delays() -> None:
    taker, knower = OneCore(), OneCore(peer="knower")
    taker.start()
    taker.meet("knower")
    taker.other_claims("paused")
    taker.listed()
    knower.start()
    knower.meet("paused")
    question = None
    for _ in range(taker.policy.claim_ttl_s + 2):
        taker.hear("knower", claim_word("knower", 1))
        for effect in taker.run(1_000):
            if isinstance(effect, fx.Publish) and isinstance(effect.message, Discussion):
                question = question or effect.message
    assert question is not None
    effects = knower.hear("taker", question) + knower.run(30_000)
    said = [one.message.claim for one in of(effects, fx.Publish) if isinstance(one.message, TaskClaim)]
    assert said == [claim_word("paused", 1).claim]
    taker.hear("knower", TaskClaim(TASK.id, said[0], "knower"))
    assert not of(taker.run(taker.policy.claim_ttl_s * 1_000 - 5_000), fx.ConfirmTask)


def test_a_liar_who_says_that_a_silent_holder_gave_back_does_not_spare_asking_the_others() -> None:
    node = OneCore()
    node.start()
    node.other_claims("paused")
    node.listed()
    node.run(node.policy.claim_ttl_s * 1_000 - 3_000)
    effects = node.hear("liar", claim_word("paused", 1, RecordState.RELEASED)) + node.run(2_000)
    assert only(effects, fx.ConfirmTask).read_claim
    node.run(2_000)
    effects = node.confirm()
    assert not of(effects, fx.SwapClaim), (
        "by now it is silent for long, and nobody was asked for a sign of its life"
    )
    asked = [one.message for one in of(effects, fx.Publish) if isinstance(one.message, Discussion)]
    assert [message.data["node_id"] for message in asked] == ["paused"]
    assert of(node.run(node.policy.objection_wait_ms + 2_000), fx.ConfirmTask), "nobody had one"


def test_a_liar_who_vouches_for_the_dead_delays_a_bounded_number_of_times() -> None:
    node = OneCore()
    node.start()
    node.other_claims("dead")
    node.listed()
    most_ms = (node.policy.vouches_max + 2) * (node.policy.claim_ttl_s * 1_000 + 2 * node.policy.objection_wait_ms)
    for _ in range(most_ms // 10_000):
        node.hear("liar", claim_word("dead", 1))
        if of(node.run(10_000), fx.ConfirmTask):
            return
    raise AssertionError("it waits for ever")


def test_a_paused_holder_whose_claim_lives_shortly_is_vouched_for_as_long_as_any_other() -> None:
    """Its host answers others and not this node: eight short lives are no time for a pause."""
    node = OneCore(Policy(claim_ttl_s=90))
    node.start()
    assert node.ledger.swap(None, replace(record_of("paused"), ttl_s=90), "paused").won
    node.listed()
    for _ in range(360):
        node.hear("knower", claim_word("paused", 1))
        assert not of(node.run(10_000), fx.ConfirmTask)


def test_a_question_of_any_form_is_only_data() -> None:
    node = OneCore()
    node.start()
    node.meet("holder")
    for data in (
        {},
        {"ask": "heard_of_holder"},
        {
            "ask": "heard_of_holder",
            "repository": 7,
            "node_id": "holder",
            "issue_id": 1,
            "epoch": 1,
            "incarnation": 1,
        },
        {"ask": "heard_of_holder", "repository": "a/b", "node_id": ["x"], "issue_id": 1, "epoch": 1},
        {"ask": "heard_of_holder", "repository": "a/b", "node_id": "holder", "issue_id": True, "epoch": 1},
    ):
        node.hear("liar", Discussion("coordination_request", data))
    assert not [one for one in of(node.run(20_000), fx.Publish) if one.message == claim_word("holder", 1)]
    assert node.core.context.counters["vouched"] == 0


def test_questions_without_end_get_a_bounded_number_of_answers() -> None:
    node = OneCore()
    node.start()
    node.meet("holder")
    for number in range(500):
        data = {
            "ask": "heard_of_holder",
            "repository": "acme/garden",
            "node_id": "holder",
            "issue_id": number,
            "epoch": 1,
            "incarnation": 1,
        }
        node.hear("liar", Discussion("coordination_request", data))
    node.run(20_000)
    assert node.core.context.counters["vouched"] == node.policy.vouches_per_minute_max
    assert node.core.context.counters["dropped_vouches"] == 500 - node.policy.vouches_per_minute_max
