"""The embedded forge's REST interface, its webhooks and pages, over a real socket.

It speaks for bzzz.forge.embedded.api_git, bzzz.forge.embedded.api_hook, bzzz.forge.embedded.api_issue,
bzzz.forge.embedded.api_pull, bzzz.forge.embedded.api_repository, bzzz.forge.embedded.call,
bzzz.forge.embedded.claim_chain, bzzz.forge.embedded.delivery, bzzz.forge.embedded.herald,
bzzz.forge.embedded.hook, bzzz.forge.embedded.page and bzzz.forge.embedded.shape.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.support.forge_server import ForgeServer, listening, running_forge, serve, serve_on
from tests.support.git_client import commit_file, git
from tests.support.waiting import wait_for

from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import TaskId
from bzzz.forge.embedded import EmbeddedForge, EmbeddedForgeSettings, create_forge
from bzzz.forge.embedded.account import Actor, Scope
from bzzz.forge.embedded.setting import last_base_url

REPO = "/repos/hive/demo"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ForgeServer]:
    with running_forge(tmp_path / "data", webhook_backoff_s=0.05, webhook_attempts_max=3) as running:
        running.repository("hive", "demo")
        yield running


@pytest.fixture
def api(server: ForgeServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.api_url, headers={"authorization": f"Bearer {server.token}"}) as client:
        yield client


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One forge for all tests that only ask for what is refused."""
    with running_forge(tmp_path_factory.mktemp("steady")) as running:
        running.repository("hive", "demo")
        running.forge.create_issue("hive", "demo", "t")
        with httpx.Client(base_url=running.api_url, headers={"authorization": f"Bearer {running.token}"}) as client:
            yield client


@pytest.fixture
def clone(server: ForgeServer, tmp_path: Path) -> Path:
    git(tmp_path, "clone", "--quiet", server.git_url("hive", "demo"), "clone")
    return tmp_path / "clone"


def push_branch(clone: Path, branch: str, name: str = "fix.txt", text: str = "one\n", message: str = "Fix") -> str:
    git(clone, "checkout", "--quiet", "-B", branch, "origin/main")
    commit = commit_file(clone, name, text, message)
    git(clone, "push", "--quiet", "--force", "origin", branch)
    return commit


def open_pull(api: httpx.Client, branch: str, **more: Any) -> dict[str, Any]:
    answer = api.post(f"{REPO}/pulls", json={"title": "Fix", "head": branch, "base": "main", **more})
    assert answer.status_code == 201, answer.text
    value: dict[str, Any] = answer.json()
    return value


def test_issues_and_pull_requests_share_one_sequence_however_many_ask(
    server: ForgeServer, api: httpx.Client, clone: Path
) -> None:
    push_branch(clone, "work")
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda n: api.post(f"{REPO}/issues", json={"title": f"t{n}"}).json()["number"], range(40))
        )
    assert sorted(made) == list(range(1, 41))
    assert open_pull(api, "work")["number"] == 41


def test_a_pull_request_has_a_real_diff_and_is_really_merged(
    server: ForgeServer, api: httpx.Client, clone: Path
) -> None:
    api.post(f"{REPO}/issues", json={"title": "Broken"})
    commit = push_branch(clone, "work")
    pull = open_pull(api, "work", body="Fixes #1")

    assert (pull["head"]["sha"], pull["mergeable"], pull["commits"], pull["changed_files"]) == (commit, True, 1, 1)
    diff = api.get(f"{REPO}/pulls/2", headers={"accept": "application/vnd.github.diff"}).text
    assert "+one" in diff
    (file,) = api.get(f"{REPO}/pulls/2/files").json()
    assert (file["filename"], file["status"], file["additions"]) == ("fix.txt", "added", 1)
    assert file["patch"] == "@@ -0,0 +1 @@\n+one"
    assert api.get(f"{REPO}/pulls/2/merge").status_code == 404

    assert api.put(f"{REPO}/pulls/2/merge", json={"sha": "0" * 40}).status_code == 409
    merged = api.put(f"{REPO}/pulls/2/merge", json={"sha": commit})

    assert merged.json()["merged"] is True
    git(clone, "fetch", "--quiet", "origin")
    assert git(clone, "rev-parse", "origin/main") == merged.json()["sha"]
    assert git(clone, "show", "origin/main:fix.txt") == "one"
    assert len(git(clone, "rev-list", "--parents", "-1", "origin/main").split()) == 3
    assert api.get(f"{REPO}/issues/1").json()["state"] == "closed"
    assert api.get(f"{REPO}/pulls/2/merge").status_code == 204
    assert api.put(f"{REPO}/pulls/2/merge").status_code == 405
    assert "+one" in api.get(f"{REPO}/pulls/2", headers={"accept": "application/vnd.github.diff"}).text


def test_a_conflict_is_not_mergeable_and_changes_nothing(
    server: ForgeServer, api: httpx.Client, clone: Path
) -> None:
    push_branch(clone, "a", "README.md", "from a\n")
    push_branch(clone, "b", "README.md", "from b\n")
    first, second = open_pull(api, "a"), open_pull(api, "b")
    assert api.put(f"{REPO}/pulls/{first['number']}/merge", json={"merge_method": "squash"}).status_code == 200
    before = api.get(f"{REPO}/git/ref/heads/main").json()["object"]["sha"]
    assert api.get(f"{REPO}/pulls/{second['number']}").json()["mergeable"] is False
    refused = api.put(f"{REPO}/pulls/{second['number']}/merge")
    assert (refused.status_code, refused.json()["message"]) == (405, "Pull Request is not mergeable")
    assert api.put(f"{REPO}/pulls/{second['number']}/merge", json={"merge_method": "rebase"}).status_code == 405
    assert api.get(f"{REPO}/git/ref/heads/main").json()["object"]["sha"] == before


def test_a_pull_request_follows_its_branch(server: ForgeServer, api: httpx.Client, clone: Path) -> None:
    push_branch(clone, "work")
    number = open_pull(api, "work")["number"]
    newer = commit_file(clone, "more.txt", "more\n")
    git(clone, "push", "--quiet", "origin", "work")
    assert api.get(f"{REPO}/pulls/{number}").json()["head"]["sha"] == newer
    assert git(clone, "ls-remote", "origin", f"refs/pull/{number}/head").split()[0] == newer
    git(clone, "push", "--quiet", "origin", ":work")
    assert api.get(f"{REPO}/pulls/{number}").json()["state"] == "closed"
    assert api.get(f"{REPO}/pulls/{number}/files").json()[0]["filename"] == "fix.txt"


def test_a_branch_merged_by_hand_is_seen_as_merged(server: ForgeServer, api: httpx.Client, clone: Path) -> None:
    push_branch(clone, "work")
    number = open_pull(api, "work")["number"]
    git(clone, "push", "--quiet", "origin", "work:main")
    assert api.get(f"{REPO}/pulls/{number}").json()["merged"] is True


def test_a_pull_request_that_exists_or_cannot_be_is_422(
    server: ForgeServer, api: httpx.Client, clone: Path
) -> None:
    push_branch(clone, "work")
    open_pull(api, "work")
    for head, base, says in (
        ("work", "main", "already exists"),
        ("hive:work", "main", "already exists"),
        ("main", "main", "No commits between"),
        ("absent", "main", "head is not a branch"),
        ("work", "absent", "base is not a branch"),
        ("stranger:work", "main", "must be a branch of this repository"),
        ("--upload-pack=x", "main", "no branch name"),
        ("work", "../main", "no branch name"),
    ):
        answer = api.post(f"{REPO}/pulls", json={"title": "t", "head": head, "base": base})
        assert answer.status_code == 422, (head, base)
        assert says in answer.json()["errors"][0]["message"]
        assert answer.json()["documentation_url"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/issues", {"title": ""}, 422),
        ("POST", "/issues", {"title": "x" * 257}, 422),
        ("POST", "/issues", {"title": 5}, 422),
        ("POST", "/issues", {}, 422),
        ("POST", "/issues", {"title": "t", "body": "x" * 65_537}, 422),
        ("POST", "/issues", {"title": "t", "body": "x" * 3_000_000}, 413),
        ("POST", "/issues", {"title": "t", "labels": [1]}, 422),
        ("POST", "/issues", {"title": "t", "labels": ["a,b"]}, 422),
        ("PATCH", "/issues/1", {"state": "maybe"}, 422),
        ("GET", "/issues?state=maybe", None, 422),
        ("GET", "/issues?since=yesterday", None, 422),
        ("GET", "/issues/99999999999999999999", None, 404),
        ("GET", "/pulls/1", None, 404),
        ("POST", "/git/refs", {"ref": "refs/heads/a..b", "sha": "0" * 40}, 422),
        ("POST", "/git/refs", {"ref": "refs/heads/x", "sha": "--help"}, 422),
        ("POST", "/git/refs", {"ref": "refs/heads/x", "sha": "0" * 40}, 422),
        ("GET", "/git/ref/heads/..%2f..%2fetc", None, 404),
        ("GET", "/contents/..%2f..%2fetc%2fpasswd", None, 404),
        ("GET", "/contents/README.md?ref=--output=/tmp/x", None, 404),
        ("GET", "/commits/--all", None, 404),
        ("POST", "/hooks", {"config": {"url": "file:///etc/passwd"}}, 422),
        ("POST", "/hooks", {"config": {"url": "http://x/"}, "events": ["everything"]}, 422),
        ("POST", "/statuses/main", {"state": "success"}, 422),
        ("GET", "/nothing/here", None, 404),
        ("DELETE", "/git/refs/heads/main", None, 422),
    ],
)
def test_bad_input_gets_a_clear_refusal(
    steady: httpx.Client, method: str, path: str, body: Any, status: int
) -> None:
    answer = steady.request(method, f"{REPO}{path}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]


def test_a_body_that_is_no_json_is_400(api: httpx.Client) -> None:
    for content in (b"{", b"[" * 100_000, b"\xff", b'"text"', b"[1]"):
        answer = api.post(f"{REPO}/issues", content=content)
        assert (answer.status_code, "JSON" in answer.json()["message"]) == (400, True)


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "x.git", "-x", "--upload-pack=x", "", "a b", "é", "x" * 101, "a\n"]
)
def test_names_that_could_climb_or_be_options_are_refused(steady: httpx.Client, name: str) -> None:
    assert steady.post("/orgs/hive/repos", json={"name": name}).status_code == 422


def test_hostile_text_is_kept_as_data(api: httpx.Client) -> None:
    text = "\x00\x1b[2J $(touch /tmp/x) `id` ../../ <script>alert(1)</script> \u202e reversed"
    number = api.post(f"{REPO}/issues", json={"title": text, "body": text}).json()["number"]
    found = api.get(f"{REPO}/issues/{number}").json()
    assert (found["title"], found["body"]) == (text, text)


def test_half_a_surrogate_pair_is_refused(api: httpx.Client) -> None:
    answer = api.post(f"{REPO}/issues", content=b'{"title": "\\ud800"}')
    assert answer.status_code == 422


def test_a_304_is_given_for_the_same_token_and_page_alone(server: ForgeServer, api: httpx.Client) -> None:
    api.post(f"{REPO}/issues", json={"title": "t"})
    first = api.get(f"{REPO}/issues")
    etag = {"if-none-match": first.headers["etag"]}
    again = api.get(f"{REPO}/issues", headers=etag)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = server.forge.create_token("other", scope="read")
    assert (
        httpx.get(f"{server.api_url}{REPO}/issues", headers={**etag, "authorization": f"token {other}"}).status_code
        == 200
    )
    api.post(f"{REPO}/issues", json={"title": "t"})
    assert api.get(f"{REPO}/issues", headers=etag).status_code == 200


def test_pages_are_linked_as_on_github(api: httpx.Client) -> None:
    for n in range(5):
        api.post(f"{REPO}/issues", json={"title": f"t{n}"})
    first = api.get(f"{REPO}/issues", params={"per_page": 2, "state": "all"})
    assert [each["number"] for each in first.json()] == [5, 4]
    assert set(first.links) == {"next", "last"}
    assert first.links["last"]["url"].endswith("page=3")
    second = api.get(first.links["next"]["url"])
    assert [each["number"] for each in second.json()] == [3, 2]
    assert set(second.links) == {"first", "prev", "next", "last"}
    third = api.get(second.links["next"]["url"])
    assert ([each["number"] for each in third.json()], set(third.links)) == ([1], {"first", "prev"})


def test_the_rate_limit_is_told_and_kept(tmp_path: Path) -> None:
    with running_forge(tmp_path / "data", rate_limit_per_hour=3) as server:
        headers = {"authorization": f"Bearer {server.token}"}
        left = [httpx.get(f"{server.api_url}/user", headers=headers) for _ in range(4)]
        assert [each.headers["x-ratelimit-remaining"] for each in left] == ["2", "1", "0", "0"]
        assert (left[3].status_code, "rate limit exceeded" in left[3].json()["message"]) == (403, True)
        told = httpx.get(f"{server.api_url}/rate_limit", headers=headers).json()["rate"]
        assert (told["limit"], told["remaining"], told["used"]) == (3, 0, 3)


def test_a_stranger_may_open_an_issue_and_no_more(server: ForgeServer, api: httpx.Client) -> None:
    stranger = server.forge.create_token("stranger", scope="issue")
    headers = {"authorization": f"Bearer {stranger}"}
    made = httpx.post(
        f"{server.api_url}{REPO}/issues", json={"title": "t", "labels": ["bzzz-task"]}, headers=headers
    )
    assert (made.status_code, made.json()["author_association"], made.json()["labels"]) == (201, "NONE", [])
    url = f"{server.api_url}{REPO}/issues/{made.json()['number']}"
    assert httpx.post(f"{url}/labels", json={"labels": ["bzzz-task"]}, headers=headers).status_code == 403
    assert httpx.patch(url, json={"title": "mine"}, headers=headers).status_code == 200
    other = api.post(f"{REPO}/issues", json={"title": "theirs"}).json()["number"]
    assert (
        httpx.patch(f"{server.api_url}{REPO}/issues/{other}", json={"title": "x"}, headers=headers).status_code
        == 403
    )


def test_a_private_repository_is_hidden_from_those_without_a_token(server: ForgeServer, api: httpx.Client) -> None:
    server.forge.create_repository("hive", "secret", private=True)
    url = f"{server.api_url}/repos/hive/secret"
    assert httpx.get(url).status_code == 404
    assert httpx.patch(url, json={}).status_code == 404
    assert api.get("/repos/hive/secret").json()["private"] is True
    assert [each["name"] for each in httpx.get(f"{server.api_url}/orgs/hive/repos").json()] == ["demo"]
    assert httpx.get(f"{server.base_url}/hive/secret").status_code == 401
    assert "secret" not in httpx.get(f"{server.base_url}/").text


def test_a_revoked_token_is_no_token(server: ForgeServer) -> None:
    secret = server.forge.create_token("gone", label="soon")
    (info,) = [each for each in server.forge.list_tokens() if each.label == "soon"]
    server.forge.revoke_token(info.id)
    assert httpx.get(f"{server.api_url}/user", headers={"authorization": f"Bearer {secret}"}).status_code == 401
    data = (server.forge.settings.data_dir / "forge.sqlite3").read_bytes()
    assert secret.encode() not in data


def test_labels_assignees_comments_and_statuses_are_kept(api: httpx.Client, server: ForgeServer) -> None:
    number = api.post(f"{REPO}/issues", json={"title": "t"}).json()["number"]
    issue = f"{REPO}/issues/{number}"
    assert [each["name"] for each in api.post(f"{issue}/labels", json=["b", "ui/ux"]).json()] == ["b", "ui/ux"]
    assert api.delete(f"{issue}/labels/ui%2Fux").status_code == 200
    assert api.delete(f"{issue}/labels/ui%2Fux").status_code == 404
    assert api.post(f"{REPO}/labels", json={"name": "b", "color": "ff0000"}).status_code == 422
    assert (
        api.post(f"{issue}/assignees", json={"assignees": ["walnut", "acacia"]}).json()["assignee"]["login"]
        == "acacia"
    )
    assert len(api.request("DELETE", f"{issue}/assignees", json={"assignees": ["acacia"]}).json()["assignees"]) == 1
    comment = api.post(f"{issue}/comments", json={"body": "hello"}).json()
    assert api.patch(f"{REPO}/issues/comments/{comment['id']}", json={"body": "bye"}).json()["body"] == "bye"
    assert api.get(f"{issue}/comments").json()[0]["author_association"] == "MEMBER"
    sha = api.get(f"{REPO}/branches/main").json()["commit"]["sha"]
    for state in ("pending", "success"):
        assert api.post(f"{REPO}/statuses/{sha}", json={"state": state, "context": "check"}).status_code == 201
    assert api.get(f"{REPO}/commits/main/status").json()["state"] == "success"
    assert len(api.get(f"{REPO}/commits/main/statuses").json()) == 2


def test_refs_and_contents_are_read_and_written(api: httpx.Client) -> None:
    sha = api.get(f"{REPO}/git/ref/heads/main").json()["object"]["sha"]
    assert api.post(f"{REPO}/git/refs", json={"ref": "refs/heads/next", "sha": sha}).status_code == 201
    assert api.post(f"{REPO}/git/refs", json={"ref": "refs/heads/next", "sha": sha}).status_code == 422
    assert {each["name"] for each in api.get(f"{REPO}/branches").json()} == {"main", "next"}
    assert api.delete(f"{REPO}/git/refs/heads/next").status_code == 204
    file = api.get(f"{REPO}/contents/README.md").json()
    assert base64.b64decode(file["content"]) == b"# demo\n"
    assert api.get(f"{REPO}/contents").json()[0]["path"] == "README.md"


# --- webhooks ---------------------------------------------------------------------------------------------


class Receiver:
    """Takes deliveries, answering the first ``failures`` of them with 500."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.got: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        status = 204
        if self.failures:
            self.failures -= 1
            status = 500
        else:
            self.got.put(({k.decode(): v.decode() for k, v in scope["headers"]}, body))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def test_webhooks_arrive_signed_in_order_and_are_tried_again(
    server: ForgeServer, api: httpx.Client, clone: Path
) -> None:
    receiver = Receiver(failures=2)
    with serve(receiver) as port:
        hook = {"config": {"url": f"http://127.0.0.1:{port}/", "secret": "s3cret"}, "events": ["*"]}
        made = api.post(f"{REPO}/hooks", json=hook).json()
        assert "s3cret" not in json.dumps(made)
        number = api.post(f"{REPO}/issues", json={"title": "t"}).json()["number"]
        api.post(f"{REPO}/issues/{number}/comments", json={"body": "c"})
        api.post(f"{REPO}/issues/{number}/labels", json=["bzzz-task"])
        push_branch(clone, "work")
        open_pull(api, "work")

        events, ids = [], set()
        for _ in range(6):
            headers, body = receiver.got.get(timeout=10)
            digest = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
            assert headers["x-hub-signature-256"] == f"sha256={digest}"
            value = json.loads(body)
            assert value["repository"]["full_name"] == "hive/demo"
            events.append((headers["x-github-event"], value.get("action")))
            ids.add(headers["x-github-delivery"])
    assert events == [
        ("ping", None), ("issues", "opened"), ("issue_comment", "created"), ("issues", "labeled"), ("push", None),
        ("pull_request", "opened"),
    ]  # fmt: skip
    assert len(ids) == 6
    assert server.forge.counters()["webhooks_retried"] == 2


def test_a_dead_receiver_delays_nobody_and_is_given_up_in_the_end(server: ForgeServer, api: httpx.Client) -> None:
    receiver = Receiver()
    with serve(receiver) as port:
        server.forge.ensure_hook("hive", "demo", "http://127.0.0.1:9/dead", "x", ["issues"])
        server.forge.ensure_hook("hive", "demo", f"http://127.0.0.1:{port}/", "x", ["issues"])
        api.post(f"{REPO}/issues", json={"title": "t"})
        headers, _ = receiver.got.get(timeout=5)
        assert headers["x-github-event"] == "issues"

        def dropped() -> list[int]:
            with server.forge.store.read() as db:
                return [row["dropped"] for row in db.execute("SELECT dropped FROM hook ORDER BY id")]

        assert wait_for(lambda: dropped() == [1, 0])


# --- pages ------------------------------------------------------------------------------------------------


def test_pages_show_what_is_there_and_run_nothing(server: ForgeServer, api: httpx.Client, clone: Path) -> None:
    evil = "<script>alert(1)</script> [x](javascript:alert(1)) ![i](http://evil/x.png) **bold** \x1b[31m"
    number = api.post(f"{REPO}/issues", json={"title": f"Title {evil}", "body": evil}).json()["number"]
    api.post(f"{REPO}/issues/{number}/comments", json={"body": evil})
    push_branch(clone, "work", "<img src=x>.txt", "<script>x</script>\n", "Fix <b>it</b>")
    pull = open_pull(api, "work", body=evil)["number"]
    for path in ("", "/hive/demo", "/hive/demo/issues", f"/hive/demo/issues/{number}", "/hive/demo/pulls",
                 f"/hive/demo/pull/{pull}", "/hive/demo/issues?state=all&label=%3Cscript%3E"):  # fmt: skip
        page = httpx.get(server.base_url + (path or "/"))
        assert page.status_code == 200, path
        assert "default-src 'none'" in page.headers["content-security-policy"]
        text = page.text
        assert "<script" not in text
        assert "<img" not in text
        assert "<b>it</b>" not in text
        assert 'href="javascript:' not in text
        assert "\x1b" not in text
    assert "<strong>bold</strong>" in httpx.get(f"{server.base_url}/hive/demo/issues/{number}").text
    diff = httpx.get(f"{server.base_url}/hive/demo/pull/{pull}.diff")
    assert diff.headers["content-type"].startswith("text/plain")
    assert httpx.get(f"{server.base_url}/hive/absent").status_code == 404
    assert httpx.get(f"{server.base_url}/-/forge.css").headers["content-type"].startswith("text/css")


def test_the_claim_chain_of_an_issue_is_shown(server: ForgeServer, api: httpx.Client, clone: Path) -> None:
    number = api.post(f"{REPO}/issues", json={"title": "t"}).json()["number"]
    git(clone, "checkout", "--quiet", "--orphan", "chain")
    git(clone, "rm", "-rfq", ".")
    for epoch, state, agent in ((1, RecordState.HELD, "walnut"), (1, RecordState.RELEASED, "walnut"),
                                (2, RecordState.DELIVERED, "acacia<b>")):  # fmt: skip
        holder = Holder("12D3KooW", agent)
        record = ClaimRecord(TaskId("hive/demo", number), epoch, holder, state, f"n{epoch}{state}", branch="bzzz/t")
        commit_file(clone, "claim.json", record.to_bytes().decode())
    commit_file(clone, "claim.json", "garbage")
    git(clone, "push", "--quiet", "origin", f"HEAD:refs/bzzz/claims/{number}")
    text = httpx.get(f"{server.base_url}/hive/demo/issues/{number}").text
    assert text.index("held") < text.index("released") < text.index("delivered") < text.index("unreadable")
    assert "acacia&lt;b&gt;" in text
    assert "/pull/" not in text
    push_branch(clone, "bzzz/t")
    made = open_pull(api, "bzzz/t", body=f"Fixes #{number}")["number"]
    assert f"/hive/demo/pull/{made}" in httpx.get(f"{server.base_url}/hive/demo/issues/{number}").text
    assert f"/hive/demo/issues/{number}" in httpx.get(f"{server.base_url}/hive/demo/pull/{made}").text
    assert "epoch 2" in text


# --- as a Python object -----------------------------------------------------------------------------------


def test_administration_needs_no_http(server: ForgeServer, api: httpx.Client) -> None:
    made = server.forge.create_issue("hive", "demo", "t", "b", labels=["bzzz-task"])
    stranger = Actor("someone", Scope.ISSUE)
    server.forge.create_issue("hive", "demo", "u", actor=stranger, labels=["bzzz-task"])
    assert api.get(f"{REPO}/issues/{made['number']}").json() == made
    assert [each["title"] for each in server.forge.list_issues("hive", "demo", label="bzzz-task")] == ["t"]
    assert server.forge.repository("hive", "demo").open_issues == 2


def test_a_forge_mounted_below_a_path_works_the_same(tmp_path: Path) -> None:
    with listening() as (listener, port):
        inner = create_forge(EmbeddedForgeSettings(tmp_path / "data", f"http://127.0.0.1:{port}/forge/"))
        forge: EmbeddedForge = inner.state.forge

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            async with forge.running():
                yield

        with serve_on(Starlette(routes=[Mount("/forge", inner)], lifespan=lifespan), listener):
            info = forge.create_repository("hive", "demo", files={"a": "b"})
            for n in range(3):
                forge.create_issue("hive", "demo", f"t{n}")
            git(tmp_path, "clone", "--quiet", info.git_url, "w")
            first = httpx.get(f"{info.api_url}{REPO}/issues?per_page=2")
            assert first.links["next"]["url"].startswith(
                f"http://127.0.0.1:{port}/forge/api/v3/repos/hive/demo/issues?"
            )
            assert [each["number"] for each in httpx.get(first.links["next"]["url"]).json()] == [1]
            page = httpx.get(info.html_url)
            assert f'href="http://127.0.0.1:{port}/forge/-/forge.css"' in page.text
            assert httpx.get(f"http://127.0.0.1:{port}/forge/-/forge.css").status_code == 200
            assert last_base_url(tmp_path / "data") == f"http://127.0.0.1:{port}/forge"
        forge.close()
