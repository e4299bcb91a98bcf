"""A sign that a repository changed brings its next reading forward, whenever it comes, and never past a limit."""

from __future__ import annotations

from tests.support.one_core import REPOSITORY, OneCore, of

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.profile import Policy

POLICY = Policy()
CHANGED = ev.RepositoryChanged(REPOSITORY.key)


def idle_watcher() -> OneCore:
    """A watcher whose last reading found nothing to tell, so that the next one is far away."""
    node = OneCore(POLICY)
    node.start()
    node.listed()
    node.run(POLICY.watch_interval_min_ms)
    node.listed()
    return node


def test_a_change_between_readings_is_read_at_once() -> None:
    node = idle_watcher()
    node.run(5_000)
    assert of(node.step(CHANGED), fx.ListTasks)


def test_a_change_during_a_reading_is_read_right_after_it_however_quick_that_was() -> None:
    """The reading may have passed the place of the change already; its end must not put the next one off."""
    node = idle_watcher()
    node.run(5_000)
    assert of(node.step(CHANGED), fx.ListTasks), "a reading is under way"
    node.now_ms += 5
    node.step(CHANGED)
    node.now_ms += 5
    node.listed()
    assert of(node.run(POLICY.watch_spacing_ms), fx.ListTasks), "and this is the one for the second change"


def test_a_change_during_a_slow_reading_is_read_once_after_it() -> None:
    node = idle_watcher()
    node.run(5_000)
    assert of(node.step(CHANGED), fx.ListTasks)
    node.step(CHANGED)
    assert not of(node.run(10 * POLICY.watch_spacing_ms), fx.ListTasks), "one reading at a time"
    node.step(CHANGED)
    node.listed()
    assert len(of(node.run(POLICY.watch_interval_min_ms - 1), fx.ListTasks)) == 1


def test_a_change_during_a_reading_that_the_forge_refuses_waits_as_long_as_the_forge_asks() -> None:
    node = idle_watcher()
    node.run(5_000)
    assert of(node.step(CHANGED), fx.ListTasks)
    node.step(CHANGED)
    node.step(ev.TasksNotListed(REPOSITORY.key, "429", retry_after_ms=60_000))
    assert not of(node.run(59_999), fx.ListTasks)
    assert len(of(node.run(1), fx.ListTasks)) == 1, "and it reads the change as well"
