"""The wire form: every message comes back as it went, and nothing else gets in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bzzz import wire
from bzzz.core.message import (
    Announced,
    Availability,
    Capability,
    Discussion,
    Hint,
    Message,
    Skills,
    TaskAnnouncement,
    TaskClaim,
    TaskComplete,
    TaskProgress,
)
from bzzz.core.record import RecordState
from bzzz.core.task import Task, TaskId, TaskType
from bzzz.errors import PayloadTooLarge, PeerError
from bzzz.wire import Envelope, decode, encode

PEER = "12D3KooWPeer"
WALL_S = 1_700_000_000.0
ENVELOPE = Envelope(PEER, WALL_S, incarnation=3, sequence=7)

whole = st.integers(0, wire.WHOLE_MAX)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
name = st.text("abcXYZ019-_.", min_size=1, max_size=20)
words = st.lists(text, max_size=5).map(tuple)
task_id = st.builds(lambda owner, repo, number: TaskId(f"{owner}/{repo}", number), name, name, whole)
hint = st.builds(Hint, whole, st.sampled_from(RecordState), text, whole, whole)
task = st.builds(
    Task,
    id=task_id,
    title=text,
    task_type=st.sampled_from(TaskType),
    priority=st.integers(0, wire.PRIORITY_MAX),
    labels=words,
    keywords=words,
    url=text,
    updated_at=text,
)
plain = st.recursive(
    st.none() | st.booleans() | whole | text | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
message = st.one_of(
    st.builds(
        Availability,
        agent=text,
        incarnation=whole,
        current_tasks=whole,
        max_tasks=whole,
        tasks=st.dictionaries(task_id, whole, max_size=4),
        leaving=st.booleans(),
        accepting=st.booleans(),
        last_activity_s=st.integers(1, 4_000_000_000).map(float),
    ),
    st.builds(Capability, text, whole, words, words, text, text, text),
    st.builds(TaskAnnouncement, st.lists(st.builds(Announced, task, st.booleans(), st.none() | hint)).map(tuple)),
    st.builds(TaskClaim, task_id, hint, text),
    st.builds(TaskProgress, task_id, whole, text, text),
    st.builds(TaskComplete, task_id, hint, text, text, text, text),
    st.builds(
        Discussion,
        st.sampled_from(sorted(wire.DISCUSSION_KINDS)),
        st.dictionaries(text, plain, max_size=4),
        st.just(0),
    ),
)


def raw(**changes: Any) -> bytes:
    value: dict[str, Any] = {
        "type": "availability_broadcast",
        "from": PEER,
        "timestamp": "2026-01-02T03:04:05Z",
        "data": {"node_id": PEER},
    }
    return json.dumps({**value, **changes}).encode()


def refused(payload: bytes, peer: str = PEER) -> str:
    with pytest.raises(PeerError) as caught:
        decode(payload, peer)
    assert "\n" not in str(caught.value)
    return caught.value.reason


@given(message)
def test_every_message_comes_back_as_it_went(sent: Message) -> None:
    envelope, got = decode(encode(sent, ENVELOPE), PEER)
    assert got == sent
    assert envelope == ENVELOPE


# --- the predecessor ------------------------------------------------------------------------------------


def test_availability_has_the_predecessors_fields() -> None:
    sent = Availability("walnut", 3, 1, 2, last_activity_s=WALL_S - 60)
    value = json.loads(encode(sent, ENVELOPE))
    assert {key: value[key] for key in ("type", "from", "timestamp")} == {
        "type": "availability_broadcast",
        "from": PEER,
        "timestamp": "2023-11-14T22:13:20Z",
    }
    expected = {
        "node_id": PEER,
        "available_for_work": True,
        "current_tasks": 1,
        "max_tasks": 2,
        "last_activity": "2023-11-14T22:12:20Z",
        "status": "working",
        "timestamp": "2023-11-14T22:13:20Z",
    }
    assert {key: value["data"][key] for key in expected} == expected


def test_a_node_that_never_worked_is_active_when_it_speaks() -> None:
    value = json.loads(encode(Availability("walnut", 3, 0, 1), ENVELOPE))
    assert value["data"]["last_activity"] == value["timestamp"]


@pytest.mark.parametrize(("current", "most", "status"), [(0, 2, "ready"), (1, 2, "working"), (2, 2, "busy")])
def test_status_is_the_predecessors_word(current: int, most: int, status: str) -> None:
    data = json.loads(encode(Availability("walnut", 3, current, most), ENVELOPE))["data"]
    assert data["status"] == status
    assert data["available_for_work"] is (current < most)


def test_capabilities_have_the_predecessors_fields() -> None:
    sent = Capability("walnut", 3, ("go",), ("qwen",), "reasoning", "0.1", "model_change")
    value = json.loads(encode(sent, ENVELOPE))
    assert value["type"] == "capability_broadcast"
    expected = {
        "node_id": PEER,
        "capabilities": ["go"],
        "models": ["qwen"],
        "version": "0.1",
        "specialization": "reasoning",
        "timestamp": "2023-11-14T22:13:20Z",
        "reason": "model_change",
    }
    assert {key: value["data"][key] for key in expected} == expected


def test_a_go_nodes_availability_is_understood() -> None:
    data = {
        "node_id": PEER,
        "available_for_work": True,
        "current_tasks": 0,
        "max_tasks": 3,
        "last_activity": "2026-01-02T03:04:05.123456789+01:00",
        "status": "ready",
        "timestamp": "2026-01-02T03:04:05.123456789+01:00",
    }
    envelope, got = decode(raw(timestamp="2026-01-02T03:04:05.123456789Z", data=data), PEER)
    assert (envelope.incarnation, envelope.sequence) == (0, None)
    assert isinstance(got, Availability)
    assert (got.agent, got.incarnation, got.max_tasks, got.accepting, got.tasks) == (PEER, 0, 3, True, {})


def test_gos_zero_time_is_long_ago() -> None:
    _, got = decode(raw(data={"node_id": PEER, "last_activity": "0001-01-01T00:00:00Z"}), PEER)
    assert isinstance(got, Availability)
    assert got.last_activity_s == 0.0


def test_a_go_nodes_empty_lists_are_null() -> None:
    data = {"node_id": PEER, "capabilities": None, "models": None, "specialization": "", "version": "1"}
    _, got = decode(raw(type="capability_broadcast", data=data), PEER)
    assert isinstance(got, Capability)
    assert got.capabilities == got.models == ()


# --- what is refused ------------------------------------------------------------------------------------


def test_another_senders_name_is_forged() -> None:
    assert refused(raw(), "12D3KooWOther") == "forged"


@pytest.mark.parametrize("sender", [None, 1, [], {}, "", "x" * 100_000])
def test_a_sender_of_any_other_kind_is_forged(sender: object) -> None:
    assert refused(raw(**{"from": sender})) == "forged"


def test_what_is_oversized_is_not_even_parsed() -> None:
    assert refused(b"[" * (wire.MESSAGE_BYTES_MAX + 1)) == "oversized"


def test_an_unknown_type_is_told_as_such() -> None:
    assert refused(raw(type="task_steal")) == "unknown_type"


def test_a_discussion_that_went_too_far_is_told_as_such() -> None:
    assert refused(raw(type="meta_discussion", hop_count=wire.HOPS_MAX + 1)) == "too_many_hops"
    assert decode(raw(type="meta_discussion", hop_count=wire.HOPS_MAX), PEER)[0].hop_count == wire.HOPS_MAX


NOT_MESSAGES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    raw() + b"x",
    raw().decode().encode("utf-16"),
    b"[" * 100_000,
    b'{"a":' * 50_000,
    raw(data=None),
    raw(data=[]),
    raw(type=None),
    raw(type=["availability_broadcast"]),
    raw(timestamp=None),
    raw(timestamp=1_700_000_000),
    raw(timestamp="yesterday"),
    raw(timestamp="2026-01-02T03:04:05"),
    raw(timestamp="2026-13-45T99:99:99Z"),
    raw(sequence=-1),
    raw(sequence="1"),
    raw(sequence=True),
    raw(sequence=1.0),
    raw(sequence=2**53),
    raw(incarnation=None),
    raw(hop_count=-1),
    raw().replace(b'"data"', b'"sequence":' + b"9" * 10_000 + b',"data"'),
    raw().replace(b'"data"', b'"sequence":NaN,"data"'),
]


@pytest.mark.parametrize("payload", NOT_MESSAGES, ids=lambda payload: repr(payload[:40]))
def test_what_is_no_message_is_malformed(payload: bytes) -> None:
    assert refused(payload) == "malformed"


@pytest.mark.parametrize(
    "data",
    [
        '{"x":NaN}',
        '{"x":[Infinity]}',
        '{"x":-Infinity}',
        '{"x":1e999}',
        '{"x":"\\ud800"}',
        '{"\\udfff":1}',
        '{"x":' + "[" * wire.DEPTH_MAX + "]" * wire.DEPTH_MAX + "}",
    ],
)
def test_a_free_discussion_holds_only_what_can_be_written_again(data: str) -> None:
    payload = raw(type="meta_discussion", data={}).replace(b'"data": {}', b'"data": ' + data.encode())
    assert refused(payload) == "malformed"


def test_bytes_that_are_no_utf_8_are_malformed() -> None:
    assert refused(raw(type="meta_discussion", data={"x": "y"}).replace(b'"y"', b'"\xed\xa0\x80"')) == "malformed"


SAMPLES: list[Message] = [
    Availability("a", 1, 1, 1, skills=Skills(("go",), ("llama",), "reviews", "1.2"), last_activity_s=1.0),
    Availability("a", 1, 1, 1, {TaskId("a/b", 1): 1}, last_activity_s=1.0),
    Capability("a", 1, ("x",), ("y",), "z", "1"),
    TaskAnnouncement((Announced(Task(TaskId("a/b", 1), "t"), claim=Hint(1, RecordState.HELD, "p")),)),
    TaskClaim(TaskId("a/b", 1), Hint(1, RecordState.HELD, "p"), "a"),
    TaskProgress(TaskId("a/b", 1), 1, "agent"),
    TaskComplete(TaskId("a/b", 1), Hint(1, RecordState.DELIVERED, "p"), "a"),
]
WRONG: list[object] = [
    {"a": 1},
    [1],
    [[1]],
    [["a/b#1"]],
    [["a/b", 1]],
    1.5,
    -1,
    2**60,
    "\x00",
    "x" * 5_000,
    ["x" * 300],
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:20])
def test_a_wrong_value_anywhere_is_refused_or_harmless(sample: Message, wrong: object) -> None:
    value = json.loads(encode(sample, ENVELOPE))
    for path in places(value["data"]):
        copy = json.loads(json.dumps(value))
        holder = copy["data"]
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = wrong
        try:
            _, got = decode(json.dumps(copy).encode(), PEER)
        except PeerError as error:
            assert error.reason == "malformed"  # noqa: PT017  both ends are right
        else:
            assert decode(encode(got, ENVELOPE), PEER)[1] is not None


@pytest.mark.parametrize("key", ["leaving", "accepting", "available_for_work"])
def test_a_word_is_not_a_truth(key: str) -> None:
    assert refused(raw(data={"node_id": PEER, key: "false"})) == "malformed"


def test_a_list_longer_than_its_bound_is_malformed() -> None:
    tasks = [["a/b#1", 1]] * (wire.LIST_ITEMS_MAX + 1)
    assert refused(raw(data={"tasks": tasks})) == "malformed"


def test_a_peers_priority_stays_within_the_range_of_labels() -> None:
    value = json.loads(encode(SAMPLES[3], ENVELOPE))
    value["data"]["tasks"][0]["priority"] = 10**9
    _, got = decode(json.dumps(value).encode(), PEER)
    assert isinstance(got, TaskAnnouncement)
    assert got.tasks[0].task.priority == wire.PRIORITY_MAX


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_no_bytes_do_more_than_be_refused(payload: bytes) -> None:
    assert refused(payload) == "malformed"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=400)
@given(
    kind=st.sampled_from([json.loads(encode(sample, ENVELOPE))["type"] for sample in SAMPLES] + ["meta_msg"]),
    data=st.dictionaries(
        st.sampled_from(["task", "tasks", "claim", "epoch", "capabilities", "agent_id", "leaving", "x"]), values
    ),
    rest=st.dictionaries(st.sampled_from(["incarnation", "sequence", "hop_count", "timestamp"]), values),
)
def test_no_values_do_more_than_be_refused(kind: str, data: dict[str, Any], rest: dict[str, Any]) -> None:
    try:
        decode(raw(type=kind, data=data, **rest), PEER)
    except PeerError as error:
        assert error.reason in ("malformed", "too_many_hops")  # noqa: PT017  both ends are right


# --- what goes out --------------------------------------------------------------------------------------


def test_half_a_character_in_an_issues_title_does_not_stop_the_message() -> None:
    sent = TaskAnnouncement((Announced(Task(TaskId("a/b", 1), "bad \ud83d title")),))
    _, got = decode(encode(sent, ENVELOPE), PEER)
    assert isinstance(got, TaskAnnouncement)
    assert got.tasks[0].task.title == "bad ? title"


def test_what_a_node_says_keeps_to_what_its_peers_take() -> None:
    long = "x" * 5_000
    many = tuple(f"{number}{long}" for number in range(500))
    task = Task(TaskId("a/b", 1), long, labels=("l" * 300,), url=f"http://{long}", updated_at=long)
    hint = Hint(1, RecordState.HELD, "p")
    messages: list[Message] = [
        Capability(long, 1, many, many, long, long),
        Availability(long, 1, 0, 1, {TaskId("a/b", number): 1 for number in range(500)}),
        TaskAnnouncement((Announced(task),)),
        TaskClaim(task.id, hint, long),
        TaskProgress(task.id, 1, long, long),
        TaskComplete(task.id, hint, long, long, long, long),
    ]
    for sent in messages:
        assert type(decode(encode(sent, ENVELOPE), PEER)[1]) is type(sent)


def test_half_an_address_is_not_sent() -> None:
    sent = TaskComplete(TaskId("a/b", 1), Hint(1, RecordState.DELIVERED, "p"), "a", pull_request="h" * 5_000)
    _, got = decode(encode(sent, ENVELOPE), PEER)
    assert isinstance(got, TaskComplete)
    assert got.pull_request == ""


def test_an_announcement_that_peers_would_refuse_is_not_made() -> None:
    tasks = tuple(
        Announced(Task(TaskId("a/b", number), "t" * 2_000, labels=("l" * 200,) * 50)) for number in range(20)
    )
    with pytest.raises(PayloadTooLarge):
        encode(TaskAnnouncement(tasks * 2), ENVELOPE)
