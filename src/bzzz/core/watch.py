"""One live node reads each repository for all: what it reads, it announces.

Who watches is decided by rendezvous hashing over the members that are counted on; when the watcher goes,
the next one notices by computing the same. Two watchers for a moment cost two listings and nothing else.
The interval adapts between its bounds; a webhook or Hive's stream only brings the next reading forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bzzz.core.claim import ClaimState
from bzzz.core.context import Context
from bzzz.core.effect import FindRepositories, KeepRepositories, ListTasks, OpenPull, Publish
from bzzz.core.entry import Entry
from bzzz.core.event import AskedAgain, RepositoriesFound, RepositoriesNotFound, TasksListed, TasksNotListed
from bzzz.core.holding import Holding
from bzzz.core.membership import Liveness
from bzzz.core.message import COORDINATION_TOPIC, Announced, Hint, TaskAnnouncement
from bzzz.core.pursuit import Pursuit
from bzzz.core.ranking import watcher
from bzzz.core.record import Observation, RecordState
from bzzz.core.task import Repository, TaskId

TROUBLES_TOLD_MAX = 8
"""How many different troubles of one repository are told before it can be read again."""


@dataclass(slots=True)
class Watched:
    """What this node keeps of a repository that it watches, or watched."""

    watching: bool = False
    reading: bool = False
    again: bool = False
    interval_ms: int = 0
    read_ms: int | None = None
    failures: int = 0
    trouble: str = ""
    told: set[str] = field(default_factory=set)


class Watch:
    """Discovery of repositories, and the reading of those that are this node's to watch."""

    def __init__(self, context: Context, pursuit: Pursuit, holding: Holding) -> None:
        self._ctx = context
        self._pursuit = pursuit
        self._holding = holding
        self.watched: dict[str, Watched] = {}
        self.hive_trouble = ""
        self._hive_failures = 0

    # --- repositories -----------------------------------------------------------------------------------

    def adopt(self, repositories: tuple[Repository, ...]) -> None:
        """Take this list as the whole of what there is; what is held in others goes on."""
        ctx = self._ctx
        kept: dict[str, Repository] = {}
        for repository in repositories:
            known = kept.get(repository.key)
            if known is not None:
                ctx.counters["dropped_repositories"] += 1
                text = f"Hive lists {repository.key} twice; the entry with {known.git_url} is used"
                ctx.notice("warning", text)
            elif len(kept) >= ctx.policy.repositories_max:
                ctx.counters["dropped_repositories"] += 1
            else:
                kept[repository.key] = repository
        changed = kept != ctx.repositories
        ctx.repositories = kept
        for key in [key for key in self.watched if key not in kept]:
            del self.watched[key]
            ctx.timers.cancel(("watch", key))
            ctx.timers.cancel(("audit", key))
        self.elect()
        if changed:
            self._pursuit.consider_all()

    def found(self, event: RepositoriesFound) -> None:
        """Hive answered."""
        ctx = self._ctx
        if self.hive_trouble:
            ctx.notice("info", "Hive is back")
        self.hive_trouble = ""
        self._hive_failures = 0
        if {r.key: r for r in event.repositories} != ctx.repositories:
            ctx.emit(KeepRepositories(event.repositories))
            count = len(event.repositories)
            ctx.notice("info", f"{count} {'repository' if count == 1 else 'repositories'} to work on")
        self.adopt(event.repositories)
        ctx.timers.set(("repositories",), ctx.now_ms + ctx.policy.repositories_interval_ms)

    def not_found(self, event: RepositoriesNotFound) -> None:
        """Hive is away: go on with what is known, and say so once."""
        ctx = self._ctx
        if not self.hive_trouble:
            known = len(ctx.repositories)
            those = "one repository" if known == 1 else f"{known} repositories"
            ctx.notice("warning", f"{event.detail}; going on with the {those} known before")
        self.hive_trouble = event.detail
        self._hive_failures += 1
        wait_ms = min(ctx.policy.repositories_interval_ms, ctx.policy.retry_ms << min(self._hive_failures, 16))
        ctx.timers.set(("repositories",), ctx.now_ms + max(wait_ms, event.retry_after_ms or 0))

    def repositories_due(self) -> None:
        """Ask Hive again."""
        self._ctx.emit(FindRepositories())

    # --- who watches ------------------------------------------------------------------------------------

    def elect(self) -> None:
        """See which repositories are this node's to watch, and begin or end watching."""
        ctx = self._ctx
        peers = ctx.membership.live_peers()
        for key in ctx.repositories:
            watched = self.watched.setdefault(key, Watched(interval_ms=ctx.policy.watch_interval_min_ms))
            mine = watcher(key, peers) == ctx.profile.peer and not ctx.stopping
            if mine and not watched.watching:
                watched.watching = True
                watched.interval_ms = ctx.policy.watch_interval_min_ms
                ctx.timers.set(("watch", key), ctx.now_ms)
            elif not mine and watched.watching:
                watched.watching = False
                ctx.timers.cancel(("watch", key))
            if not ctx.stopping:
                # The more nodes there are, the more rarely each looks for itself: the sum stays the same.
                wait_ms = ctx.policy.audit_interval_ms * max(1, len(peers) - 1)
                ctx.timers.set_earlier(("audit", key), ctx.now_ms + wait_ms)

    def elect_soon(self) -> None:
        """Members changed, and others may at the same moment: count them together."""
        self._ctx.timers.set_earlier(("elect",), self._ctx.now_ms + self._ctx.policy.elect_delay_ms)

    def changed(self, repository: str) -> None:
        """A hint that something changed there; any repository, if the name is empty."""
        for key, watched in self.watched.items():
            if not watched.watching or repository not in ("", key):
                continue
            if watched.reading:
                # What is being read may have passed the place of this change already: a deadline set here would
                # be moved by the end of the reading.
                watched.again = True
            else:
                spaced_ms = 0 if watched.read_ms is None else watched.read_ms + self._ctx.policy.watch_spacing_ms
                self._ctx.timers.set_earlier(("watch", key), max(self._ctx.now_ms, spaced_ms))
        if repository and repository not in self._ctx.repositories:
            self._ctx.timers.set_earlier(("repositories",), self._ctx.now_ms)

    def watch_due(self, key: str) -> None:
        """Read a repository now."""
        watched = self.watched.get(key)
        if watched is None or not watched.watching:
            return
        if watched.reading:
            watched.again = True
            return
        watched.reading = True
        watched.read_ms = self._ctx.now_ms
        self._ctx.emit(ListTasks(key))

    def audit_due(self, key: str) -> None:
        """Read a repository that another node watches, once in a while.

        A watcher may be wedged, denied by the forge, or lying; then its tasks wait for this, and not for ever.
        """
        ctx = self._ctx
        watched = self.watched.get(key)
        if watched is None or ctx.stopping:
            return
        if not watched.watching and not watched.reading:
            ctx.counters["audits"] += 1
            watched.reading = True
            watched.read_ms = ctx.now_ms
            ctx.emit(ListTasks(key))
        wait_ms = ctx.policy.audit_interval_ms * max(1, len(ctx.membership.live_peers()) - 1)
        ctx.timers.set(("audit", key), ctx.now_ms + wait_ms)

    # --- what was read ----------------------------------------------------------------------------------

    def listed(self, event: TasksListed) -> None:
        """A repository was read: take it in, announce what is new, and set the next reading."""
        ctx = self._ctx
        watched = self.watched.get(event.repository)
        if watched is None:
            return
        if watched.trouble:
            ctx.notice("info", f"{event.repository} can be read again")
        watched.reading = False
        watched.failures = 0
        watched.trouble = ""
        watched.told.clear()
        anew: list[Entry] = []
        for task in event.tasks:
            known = ctx.entries.get(task.id)
            # Closed or without its label, and now a task again, by somebody's hand: the forge dates such changes.
            back = known is not None and not known.open and task.updated_at > known.task.updated_at
            entry = ctx.admit(task, listed=True)
            if entry is not None and entry.state is ClaimState.IDLE:
                entry.open = True
                if back:
                    anew.append(entry)
        if event.claims is not None:
            self._take_claims(event.repository, dict(event.claims), watched.read_ms or 0)
        self._close_missing(event)
        for entry in anew:
            self._holding.reopening.asked(entry, AskedAgain(entry.task.id.number, "it was opened or labelled anew"))
        for asked in event.asked:
            again = ctx.entries.get(TaskId(event.repository, asked.number))
            if again is not None:
                self._holding.reopening.asked(again, asked)
        entries = [e for e in ctx.entries.values() if e.task.id.repository == event.repository]
        told = self._announce(entries, again=False)
        orphans = 0
        for entry in sorted(entries, key=self._pursuit.urgency):
            if entry.state is ClaimState.IDLE:
                self._pursuit.consider(entry)
                if orphans < ctx.policy.orphans_per_reading_max:
                    orphans += self._open_orphaned_pull(entry)
        low, high = ctx.policy.watch_interval_min_ms, ctx.policy.watch_interval_max_ms
        watched.interval_ms = low if told else min(high, watched.interval_ms * 3 // 2)
        self._next_reading(event.repository, watched, watched.interval_ms)

    def not_listed(self, event: TasksNotListed) -> None:
        """This repository cannot be read now; the others go on."""
        ctx = self._ctx
        watched = self.watched.get(event.repository)
        if watched is None:
            return
        watched.reading = False
        watched.again = False  # the next try reads whatever changed meanwhile, and not sooner than the forge allows
        watched.failures += 1
        if event.detail not in watched.told and len(watched.told) < TROUBLES_TOLD_MAX:
            watched.told.add(event.detail)
            ctx.notice("warning", f"{event.repository} cannot be read: {event.detail}")
        watched.trouble = event.detail
        wait_ms = min(ctx.policy.watch_interval_max_ms, ctx.policy.retry_ms << min(watched.failures, 16))
        self._next_reading(event.repository, watched, max(wait_ms, event.retry_after_ms or 0))

    def _take_claims(self, repository: str, claims: Mapping[int, Observation], asked_ms: int) -> None:
        """Hold what is known and believed of a repository's claims against the whole list of them."""
        ctx = self._ctx
        for key, entry in ctx.entries.items():
            if key.repository == repository:
                standing = claims.get(key.number)
                ctx.settle_hint(entry, standing, asked_ms)
                if entry.observe(standing, ctx.now_ms):
                    self._holding.ledger_showed(entry)

    def announce_due(self) -> None:
        """Tell again what there is to do, for who came late or missed it."""
        ctx = self._ctx
        mine = {key for key, watched in self.watched.items() if watched.watching}
        entries = [e for e in ctx.entries.values() if e.task.id.repository in mine]
        self._announce(entries, again=True)
        ctx.timers.set(("announce",), ctx.now_ms + ctx.policy.announce_interval_ms)

    def _next_reading(self, key: str, watched: Watched, wait_ms: int) -> None:
        if watched.again:
            watched.again = False
            wait_ms = self._ctx.policy.watch_spacing_ms
        if watched.watching:
            self._ctx.timers.set(("watch", key), self._ctx.now_ms + wait_ms)

    def _close_missing(self, event: TasksListed) -> None:
        present = {task.id for task in event.tasks}
        for key, entry in self._ctx.entries.items():
            if key.repository == event.repository and key not in present and entry.open:
                if entry.state is ClaimState.IDLE:
                    entry.open = False
                else:
                    self._holding.issue_gone(entry)

    def _announce(self, entries: list[Entry], *, again: bool) -> bool:
        """Announce what changed since it was last announced.

        With ``again``, also whatever can be tried, and what is worked on although it is closed.
        """
        ctx = self._ctx
        batch: list[Announced] = []
        for entry in sorted(entries, key=lambda e: (-e.task.priority, e.task.id.repository, e.task.id.number)):
            claim = entry.believed()
            told = (entry.task, entry.open, claim)
            if entry.announced == told and not (again and self._to_be_had(entry, claim)):
                continue
            if entry.announced is None and not entry.open:
                continue
            entry.announced = told
            batch.append(Announced(entry.task, entry.open, claim))
        if any(m.liveness is Liveness.ALIVE for m in ctx.membership):
            size = ctx.policy.announce_batch_max
            for start in range(0, len(batch), size):
                ctx.emit(Publish(COORDINATION_TOPIC, TaskAnnouncement(tuple(batch[start : start + size]))))
        return bool(batch)

    def _to_be_had(self, entry: Entry, claim: Hint | None) -> bool:
        if not entry.open:
            return claim is not None and claim.state is RecordState.HELD
        if claim is None or claim.state is RecordState.RELEASED:
            return True
        return claim.state is RecordState.HELD and self._ctx.verdict(entry, claim).allowed

    def _open_orphaned_pull(self, entry: Entry) -> bool:
        """A delivery without a pull request whose holder is gone: its branch is there, so open it."""
        ctx = self._ctx
        standing = entry.standing
        if (
            standing is None
            or standing.record.state is not RecordState.DELIVERED
            or (entry.pull_request and entry.pull_by in (ctx.profile.peer, standing.record.holder.peer))
            or not entry.open
        ):
            return False
        member = ctx.membership.get(standing.record.holder.peer)
        if standing.record.holder.peer != ctx.profile.peer and member is not None:
            through = member.tasks_known and entry.task.id not in member.tasks
            if member.liveness is Liveness.ALIVE and not through:
                return False
        quiet_ms = ctx.policy.heartbeat_interval_ms if member is None else ctx.policy.refused_reclaim_ms
        if ctx.now_ms - entry.standing_since_ms >= quiet_ms:
            ctx.emit(OpenPull(entry.task, standing.record))
            return True
        return False
