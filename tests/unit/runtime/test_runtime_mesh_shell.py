"""Between core and mesh: nothing that is said or heard breaks it, and everything dropped is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.manual_clock import ManualClock
from tests.support.node_world import World

from bzzz.core.effect import JoinTopic, ProbePeer, Publish
from bzzz.core.event import Event, Heard, PeerDown, PeerUp, Probed
from bzzz.core.message import COORDINATION_TOPIC as TOPIC
from bzzz.core.message import Announced, Availability, TaskAnnouncement, TaskProgress
from bzzz.core.profile import Profile
from bzzz.core.task import Task, TaskId
from bzzz.errors import TransportError
from bzzz.mesh.memory import MemoryTransport
from bzzz.ports import Received
from bzzz.runtime import mesh_shell as module
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.mesh_shell import MeshShell
from bzzz.wire import Envelope, encode


class Bench:
    """A shell on a started transport, and another peer to talk to."""

    def __init__(self, folder: Path) -> None:
        world = World(folder)
        self.own, self.peer = world.transport("own"), world.transport("peer")
        self.clock = ManualClock()
        self.events = EventLog(self.clock.wall_s)
        self.fed: list[Event] = []
        self.arrived = asyncio.Event()
        self.shell = MeshShell(
            self.own, Profile(self.own.peer_id, "own", 1, "s"), clock=self.clock, events=self.events, feed=self.feed
        )
        self._sequence = 0

    def feed(self, event: Event) -> None:
        self.fed.append(event)
        self.arrived.set()

    def heard(self) -> list[Heard]:
        return [event for event in self.fed if isinstance(event, Heard)]

    def texts(self, kind: str) -> list[str]:
        return [event["text"] for event in self.events.history() if event["kind"] == kind]

    async def say(self, **changes: float) -> None:
        self._sequence += 1
        wall_s = changes.get("wall_s", self.clock.wall)
        sequence = int(changes.get("sequence", self._sequence))
        envelope = Envelope(self.peer.peer_id, wall_s, 1, sequence)
        await self.peer.publish(TOPIC, encode(Availability("peer", 1, 0, 1), envelope))

    async def settle(self) -> None:
        """Let the shell take in all that has arrived."""
        await self.peer.publish("other", b"")
        for _ in range(50):
            await asyncio.sleep(0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.own.start()
    await made.peer.start()
    for transport in (made.own, made.peer):
        await transport.join(TOPIC)
    loops = [asyncio.create_task(loop) for loop in (made.shell.run_outgoing(), made.shell.run_incoming())]
    yield made
    await made.own.stop()
    await made.peer.stop()
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


async def received(peer: MemoryTransport) -> Received:
    while True:
        event = await peer.receive()
        if isinstance(event, Received):
            return event


async def test_peers_and_what_they_say_reach_the_core(bench: Bench) -> None:
    await bench.say()
    await bench.settle()
    assert [type(event) for event in bench.fed] == [PeerUp, Heard]
    await bench.peer.stop()
    bench.arrived.clear()
    await bench.arrived.wait()
    assert isinstance(bench.fed[-1], PeerDown)


async def test_messages_go_out_in_order_and_numbered(bench: Bench) -> None:
    for current in range(3):
        bench.shell.send(Publish(TOPIC, Availability("own", 1, current, 9)))
    await bench.shell.drain()
    payloads = [(await received(bench.peer)).payload for _ in range(3)]
    assert [b'"sequence":%d' % number in payload for number, payload in enumerate(payloads, 1)] == [True] * 3
    assert bench.shell.counters["published"] == 3


async def test_garbage_is_counted_by_reason_and_said_once(bench: Bench) -> None:
    for payload in (b"{", b"\xff", b"[]", b" " * 300_000):
        await bench.peer.publish(TOPIC, payload)
    await bench.say()
    await bench.settle()
    assert bench.shell.counters["dropped_malformed"] == 3
    assert bench.shell.counters["dropped_oversized"] == 1
    assert len(bench.texts("message_dropped")) == 2
    assert len(bench.heard()) == 1


async def test_a_flood_of_garbage_is_cut_off_before_it_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.shell.inbox, "_burst_messages_max", 5)
    for _ in range(9):
        await bench.peer.publish(TOPIC, b"{")
    await bench.settle()
    assert bench.shell.counters["dropped_malformed"] == 5
    assert bench.shell.inbox.dropped["flood"] == 4
    assert [text for text in bench.texts("message_dropped") if text.startswith("flood")] != []


async def test_a_replay_is_dropped(bench: Bench) -> None:
    await bench.say(sequence=4)
    await bench.say(sequence=4)
    await bench.settle()
    assert len(bench.heard()) == 1
    assert bench.shell.inbox.dropped == {"replayed": 1}


async def test_clocks_that_are_apart_are_said_once(bench: Bench) -> None:
    await bench.say(wall_s=bench.clock.wall - 4_000)
    await bench.say(wall_s=bench.clock.wall - 4_000)
    await bench.settle()
    assert bench.heard() == []
    (text,) = bench.texts("message_dropped")
    assert "4000 s apart" in text


async def test_an_announcement_that_is_too_large_goes_in_parts(bench: Bench) -> None:
    tasks = tuple(
        Announced(Task(TaskId("a/b", number), "t" * 2_000, labels=("\N{HONEYBEE}" * 200,) * 50))
        for number in range(20)
    )
    bench.shell.send(Publish(TOPIC, TaskAnnouncement(tasks)))
    await bench.shell.drain()
    assert bench.shell.counters["published"] > 1
    assert bench.shell.counters["dropped_too_large"] == 0
    count = 0
    for _ in range(bench.shell.counters["published"]):
        count += (await received(bench.peer)).payload.count(b'"html_url"')
    assert count == len(tasks)


async def test_a_message_that_cannot_be_made_does_not_silence_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_well = encode

    def encode_badly(message: object, envelope: Envelope) -> bytes:
        monkeypatch.setattr(module, "encode", encode_well)
        raise RuntimeError("not foreseen")

    monkeypatch.setattr(module, "encode", encode_badly)
    bench.shell.send(Publish(TOPIC, TaskProgress(TaskId("a/b", 1), 1, "agent")))
    bench.shell.send(Publish(TOPIC, Availability("own", 1, 0, 1)))
    await bench.shell.drain()
    assert (bench.shell.counters["broken_outgoing"], bench.shell.counters["published"]) == (1, 1)


async def test_an_engine_that_is_down_is_told_and_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*_: object) -> None:
        raise TransportError("the engine is being restarted")

    monkeypatch.setattr(bench.own, "publish", down)
    bench.shell.send(Publish(TOPIC, Availability("own", 1, 0, 1)))
    await bench.shell.drain()
    assert bench.shell.counters["dropped_engine_down"] == 1
    assert bench.texts("mesh_down") == ["the engine is being restarted"]


async def test_what_overflows_is_counted(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    for _ in range(module.OUTGOING_MAX + 3):
        made.shell.send(JoinTopic(TOPIC))
    assert made.shell.counters["dropped_outgoing"] == 3


async def test_a_probe_needs_all_addresses_to_refuse_or_to_be_another_peers(bench: Bench) -> None:
    alive = bench.peer.addresses[0]
    gone = alive.replace("/tcp/4", "/tcp/5")
    other = alive.replace(bench.peer.peer_id, bench.shell._transport.peer_id)
    for addresses, found in [
        ((gone, alive), Probed.ANSWERED),
        ((gone, gone), Probed.REFUSED),
        ((other,), Probed.OTHER),
        ((gone, other), Probed.OTHER),
        ((alive, other), Probed.ANSWERED),
        ((other, "no address"), Probed.SILENT),
        ((gone, "no address"), Probed.SILENT),
        (("no address",), Probed.SILENT),
        ((), Probed.SILENT),
        ((gone,) * (module.PROBE_ADDRESSES_MAX + 1), Probed.SILENT),
    ]:
        assert (await bench.shell.probe(ProbePeer("p", addresses))).found is found
