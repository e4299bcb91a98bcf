"""The ``Forge`` port: what every adapter keeps, over a real server on a real socket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.forge_server import ForgeServer, running_forge
from tests.support.git_client import commit_file, git
from tests.support.manual_clock import ManualClock

from bzzz.core.task import Repository
from bzzz.errors import ServiceConflict, ServiceDenied, ServiceMissing
from bzzz.forge.client import ClientSettings, GitHubForge
from bzzz.forge.embedded.account import Actor, Scope
from bzzz.ports import Forge

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForgeServer]:
    with running_forge(tmp_path_factory.mktemp("forge")) as running:
        yield running


@pytest.fixture
async def client(server: ForgeServer) -> AsyncIterator[GitHubForge]:
    clock = ManualClock()
    made = GitHubForge(lambda _: server.token, clock, ClientSettings(timeout_s=10), sleep=clock.sleep)
    yield made
    await made.close()


@pytest.fixture
def repo(server: ForgeServer) -> Repository:
    return server.repository("hive", f"repository-{next(_numbers)}")


def issue(server: ForgeServer, repo: Repository, title: str = "A task", *labels: str) -> int:
    made = server.forge.create_issue(
        repo.owner, repo.repository, title, "what to do", labels=labels or ("bzzz-task",)
    )
    return int(made["number"])


def work_branch(server: ForgeServer, repo: Repository, tmp_path: Path, branch: str = "bzzz/task-1-abc") -> str:
    folder = tmp_path / "work"
    git(tmp_path, "clone", "--quiet", server.git_url(repo.owner, repo.repository), str(folder))
    git(folder, "checkout", "--quiet", "-b", branch)
    commit = commit_file(folder, "fix.txt", "fixed\n", "Fix it")
    git(folder, "push", "--quiet", "origin", branch)
    return commit


async def test_it_is_the_port(client: GitHubForge) -> None:
    port: Forge = client
    assert set(port.counters()) >= {"requests", "not_modified", "writes", "limited", "errors"}


async def test_open_issues_with_the_label_are_listed_and_others_are_not(
    client: GitHubForge, server: ForgeServer, repo: Repository, tmp_path: Path
) -> None:
    wanted = issue(server, repo, "Wanted", "bzzz-task", "priority-3")
    issue(server, repo, "Unlabelled", "other")
    work_branch(server, repo, tmp_path)
    pull = await client.open_pull(repo, branch="bzzz/task-1-abc", base="main", title="t", body="b")
    await client.add_labels(repo, pull.number, ["bzzz-task"])

    listing = await client.list_issues(repo, "bzzz-task")

    assert [each.number for each in listing.issues] == [wanted]
    found = listing.issues[0]
    assert (found.title, found.body, found.state) == ("Wanted", "what to do", "open")
    assert set(found.labels) == {"bzzz-task", "priority-3"}
    assert (found.author, found.association) == ("hive", "OWNER")
    assert found.url.endswith(f"/{repo.key}/issues/{wanted}")
    assert listing.budget_left is not None


async def test_a_second_listing_is_unchanged_and_gives_the_same_issues(
    client: GitHubForge, server: ForgeServer, repo: Repository
) -> None:
    issue(server, repo)
    first = await client.list_issues(repo, "bzzz-task")
    second = await client.list_issues(repo, "bzzz-task")
    issue(server, repo, "Another")
    third = await client.list_issues(repo, "bzzz-task")

    assert (first.unchanged, second.unchanged, third.unchanged) == (False, True, False)
    assert second.issues == first.issues
    assert len(third.issues) == 2
    assert client.counters()["not_modified"] == 1


async def test_a_304_costs_nothing_of_the_budget(
    client: GitHubForge, server: ForgeServer, repo: Repository
) -> None:
    issue(server, repo)
    first = await client.list_issues(repo, "bzzz-task")
    second = await client.list_issues(repo, "bzzz-task")
    third = await client.list_issues(repo, "bzzz-task")
    assert first.budget_left is not None
    assert third.unchanged
    assert third.budget_left == second.budget_left


async def test_all_pages_are_listed(client: GitHubForge, server: ForgeServer, repo: Repository) -> None:
    numbers = [issue(server, repo, f"Task {n}") for n in range(230)]
    listing = await client.list_issues(repo, "bzzz-task")
    assert [each.number for each in listing.issues] == numbers
    again = await client.list_issues(repo, "bzzz-task")
    assert again.unchanged
    assert again.issues == listing.issues


async def test_an_issue_is_read_as_it_stands(client: GitHubForge, server: ForgeServer, repo: Repository) -> None:
    number = issue(server, repo)
    await client.add_labels(repo, number, ["in-progress"])
    await client.add_labels(repo, number, ["in-progress"])
    assert set((await client.read_issue(repo, number)).labels) == {"bzzz-task", "in-progress"}
    with pytest.raises(ServiceMissing):
        await client.read_issue(repo, 9999)


async def test_removing_a_label_twice_is_removing_it_once(
    client: GitHubForge, server: ForgeServer, repo: Repository
) -> None:
    number = issue(server, repo, "t", "bzzz-task", "ui/ux")
    await client.remove_label(repo, number, "ui/ux")
    await client.remove_label(repo, number, "ui/ux")
    assert (await client.read_issue(repo, number)).labels == ("bzzz-task",)


async def test_removing_a_label_of_an_issue_that_is_not_there_is_an_error(
    client: GitHubForge, repo: Repository
) -> None:
    with pytest.raises(ServiceMissing):
        await client.remove_label(repo, 4711, "x")


async def test_a_comment_with_the_same_key_is_written_once(
    client: GitHubForge, server: ForgeServer, repo: Repository
) -> None:
    number = issue(server, repo)
    await asyncio.gather(*(client.comment(repo, number, "Claimed.", key="claim-1") for _ in range(5)))
    await client.comment(repo, number, "Released.", key="release-1")

    comments = await client.list_comments(repo, number)

    assert [each.body.splitlines()[0] for each in comments] == ["Claimed.", "Released."]
    assert comments[0].author == "bzzz"
    assert (await client.read_issue(repo, number)).comments == 2


async def test_comments_are_listed_oldest_first_over_all_pages(
    client: GitHubForge, server: ForgeServer, repo: Repository
) -> None:
    number = issue(server, repo)
    for n in range(105):
        server.forge.create_comment(repo.owner, repo.repository, number, f"c{n}")
    assert [each.body for each in await client.list_comments(repo, number)] == [f"c{n}" for n in range(105)]


async def test_opening_a_pull_request_twice_makes_one(
    client: GitHubForge, server: ForgeServer, repo: Repository, tmp_path: Path
) -> None:
    commit = work_branch(server, repo, tmp_path)
    assert await client.find_pull(repo, "bzzz/task-1-abc") is None

    first = await client.open_pull(repo, branch="bzzz/task-1-abc", base="main", title="Fix", body="Fixes #1")
    second = await client.open_pull(repo, branch="bzzz/task-1-abc", base="main", title="Fix", body="Fixes #1")

    assert first == second == await client.find_pull(repo, "bzzz/task-1-abc")
    assert (first.state, first.head_branch, first.base_branch) == ("open", "bzzz/task-1-abc", "main")
    assert first.head_commit == commit
    assert not first.merged


async def test_people_are_asked_to_review_and_who_was_asked_stays_asked(
    client: GitHubForge, server: ForgeServer, repo: Repository, tmp_path: Path
) -> None:
    work_branch(server, repo, tmp_path)
    pull = await client.open_pull(repo, branch="bzzz/task-1-abc", base="main", title="Fix it", body="")
    for reviewers in (["ana"], ["bo", "ana"], []):
        await client.ask_reviewers(repo, pull.number, reviewers)
    url = f"{repo.api_url}/repos/{repo.key}/pulls/{pull.number}"
    async with httpx.AsyncClient(trust_env=False) as plain:
        shown = (await plain.get(url, headers={"Authorization": f"Bearer {server.token}"})).json()
    assert [one["login"] for one in shown["requested_reviewers"]] == ["ana", "bo"]
    author = shown["user"]["login"]
    with pytest.raises(ServiceConflict):
        await client.ask_reviewers(repo, pull.number, [author])
    with pytest.raises(ServiceMissing):
        await client.ask_reviewers(repo, 404, ["ana"])


async def test_a_pull_request_that_a_person_closed_is_given_and_no_second_one_is_opened(
    client: GitHubForge, server: ForgeServer, repo: Repository, tmp_path: Path
) -> None:
    work_branch(server, repo, tmp_path)
    first = await client.open_pull(repo, branch="bzzz/task-1-abc", base="main", title="Fix", body="")
    closed = await asyncio.to_thread(
        httpx.patch,
        f"{repo.api_url}/repos/{repo.key}/pulls/{first.number}",
        json={"state": "closed"},
        headers={"authorization": f"Bearer {server.token}"},
    )
    assert closed.status_code == 200
    again = await client.open_pull(repo, branch="bzzz/task-1-abc", base="main", title="Fix", body="")
    assert (again.number, again.state, again.merged) == (first.number, "closed", False)


async def test_racing_nodes_open_one_pull_request(
    client: GitHubForge, server: ForgeServer, repo: Repository, tmp_path: Path
) -> None:
    work_branch(server, repo, tmp_path)
    opened = await asyncio.gather(
        *(client.open_pull(repo, branch="bzzz/task-1-abc", base="main", title="Fix", body="") for _ in range(8))
    )
    assert len({pull.number for pull in opened}) == 1
    assert len(server.forge.list_pulls(repo.owner, repo.repository)) == 1


async def test_a_merged_pull_request_is_found_as_merged(
    client: GitHubForge, server: ForgeServer, repo: Repository, tmp_path: Path
) -> None:
    commit = work_branch(server, repo, tmp_path)
    opened = await client.open_pull(repo, branch="bzzz/task-1-abc", base="main", title="Fix", body="")
    row = server.forge.row(repo.owner, repo.repository)
    server.forge.merge_pull(row, opened.number, Actor("hive", Scope.ADMIN), sha=commit)
    found = await client.find_pull(repo, "bzzz/task-1-abc")
    assert found is not None
    assert (found.state, found.merged) == ("closed", True)


async def test_a_pull_request_without_commits_is_a_conflict(
    client: GitHubForge, server: ForgeServer, repo: Repository, tmp_path: Path
) -> None:
    folder = tmp_path / "w"
    git(tmp_path, "clone", "--quiet", server.git_url(repo.owner, repo.repository), str(folder))
    git(folder, "push", "--quiet", "origin", "HEAD:refs/heads/same")
    with pytest.raises(ServiceConflict, match="No commits between main and same"):
        await client.open_pull(repo, branch="same", base="main", title="t", body="")
    with pytest.raises(ServiceConflict, match="head is not a branch"):
        await client.open_pull(repo, branch="absent", base="main", title="t", body="")


async def test_a_webhook_is_set_once_and_brought_up_to_date(
    client: GitHubForge, server: ForgeServer, repo: Repository
) -> None:
    first = await client.ensure_webhook(repo, "http://127.0.0.1:9/hook", "old")
    second = await client.ensure_webhook(repo, "http://127.0.0.1:9/hook", "new")
    assert first == second
    with server.forge.store.read() as db:
        assert [row["secret"] for row in db.execute("SELECT secret FROM hook WHERE id = ?", (first,))] == ["new"]


async def test_a_token_of_lesser_scope_is_denied(server: ForgeServer, repo: Repository) -> None:
    number = issue(server, repo)
    reader = server.forge.create_token("reader", scope="read")
    for token, status in ((reader, 403), ("bzf_wrong", 401), (None, 401)):
        weak = GitHubForge(lambda _, t=token: t, ManualClock())  # type: ignore[misc]
        with pytest.raises(ServiceDenied) as denied:
            await weak.add_labels(repo, number, ["x"])
        assert denied.value.status == status
        assert token is None or token not in str(denied.value)
        await weak.close()
