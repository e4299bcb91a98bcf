"""Task identities are read strictly, since peers and people send them."""

from __future__ import annotations

import pytest

from bzzz.core.task import Repository, TaskId


def test_an_identity_is_read_back_from_what_it_prints() -> None:
    task = TaskId("bees/honey-pot.v2", 12)
    assert TaskId.parse(str(task)) == task


@pytest.mark.parametrize(
    "text",
    ["", "#", "honey#1", "/honey#1", "bees/#1", "bees/honey", "bees/honey#", "bees/honey#-1", "bees/honey#²"],
)
def test_what_names_no_task_is_refused_and_shown(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form owner/name#number") as caught:
        TaskId.parse(text)
    assert repr(text) in str(caught.value)


def test_a_repository_is_known_by_owner_and_name() -> None:
    repository = Repository(1, "Honey", "bees", "honey", "http://forge.test/bees/honey.git", "http://forge.test")
    assert repository.key == "bees/honey"
