"""GitHub's JSON shapes, made from rows: what PyGithub, Octokit and ``gh api`` expect to find. Pure.

Field names and nesting are those of GitHub's REST reference; links that lead to parts which this forge
does not have are left out rather than promised.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from bzzz.forge.embedded.diff import FileChange
from bzzz.forge.embedded.repository import CommitInfo, TreeEntry

Json = dict[str, Any]


def node_id(kind: str, number: int) -> str:
    """An opaque id in GitHub's older form."""
    return base64.b64encode(f"0{len(kind)}:{kind}{number}".encode()).decode()


class Shape:
    """Makes shapes whose links begin at ``base_url`` (for people) and ``api_url`` (for programs)."""

    def __init__(self, base_url: str, api_url: str) -> None:
        self.base_url = base_url
        self.api_url = api_url

    def user(self, login: str, kind: str = "User") -> Json:
        """A simple user; its number comes from its login, so that it needs no look-up."""
        number = int.from_bytes(hashlib.sha256(login.lower().encode()).digest()[:4]) >> 1
        url = f"{self.api_url}/users/{login}"
        return {
            "login": login, "id": number, "node_id": node_id("User", number), "avatar_url": "", "gravatar_id": "",
            "url": url, "html_url": f"{self.base_url}/{login}", "repos_url": f"{url}/repos", "type": kind,
            "site_admin": False,
        }  # fmt: skip

    def repo_url(self, repo: sqlite3.Row) -> str:
        """The API address of a repository."""
        return f"{self.api_url}/repos/{repo['owner']}/{repo['name']}"

    def repo_html(self, repo: sqlite3.Row) -> str:
        """The page of a repository."""
        return f"{self.base_url}/{repo['owner']}/{repo['name']}"

    def repository(self, repo: sqlite3.Row, open_issues: int = 0, scope: int = 0) -> Json:
        """A repository; ``scope`` is what the asker may do with it."""
        url, html = self.repo_url(repo), self.repo_html(repo)
        return {
            "id": repo["id"], "node_id": node_id("Repository", repo["id"]), "name": repo["name"],
            "full_name": f"{repo['owner']}/{repo['name']}", "private": bool(repo["private"]),
            "owner": self.user(repo["owner"], "Organization"), "html_url": html,
            "description": repo["description"] or None, "fork": False, "url": url,
            "visibility": "private" if repo["private"] else "public", "clone_url": f"{html}.git",
            "git_url": f"{html}.git", "ssh_url": "", "svn_url": html, "homepage": None, "language": None,
            "created_at": repo["created_at"], "updated_at": repo["updated_at"],
            "pushed_at": repo["pushed_at"] or repo["created_at"], "size": 0, "stargazers_count": 0,
            "watchers_count": 0, "watchers": 0, "forks_count": 0, "forks": 0, "open_issues_count": open_issues,
            "open_issues": open_issues, "default_branch": repo["default_branch"], "archived": False,
            "disabled": False, "has_issues": True, "has_projects": False, "has_wiki": False, "has_pages": False,
            "has_downloads": False, "is_template": False, "topics": [], "license": None,
            "allow_merge_commit": True, "allow_squash_merge": True, "allow_rebase_merge": False,
            "permissions": {
                "admin": scope >= 4, "maintain": scope >= 4, "push": scope >= 3, "triage": scope >= 3,
                "pull": True,
            },
            "issues_url": f"{url}/issues{{/number}}", "pulls_url": f"{url}/pulls{{/number}}",
            "comments_url": f"{url}/comments{{/number}}", "labels_url": f"{url}/labels{{/name}}",
            "branches_url": f"{url}/branches{{/branch}}", "git_refs_url": f"{url}/git/refs{{/sha}}",
            "contents_url": f"{url}/contents/{{+path}}", "statuses_url": f"{url}/statuses/{{sha}}",
            "commits_url": f"{url}/commits{{/sha}}", "hooks_url": f"{url}/hooks",
        }  # fmt: skip

    def label(self, repo: sqlite3.Row, label: sqlite3.Row) -> Json:
        """A label."""
        return {
            "id": label["id"], "node_id": node_id("Label", label["id"]),
            "url": f"{self.repo_url(repo)}/labels/{label['name']}", "name": label["name"], "color": label["color"],
            "default": False, "description": label["description"] or None,
        }  # fmt: skip

    def issue(
        self, repo: sqlite3.Row, row: sqlite3.Row, labels: Sequence[sqlite3.Row], assignees: Sequence[str]
    ) -> Json:
        """An issue, or a pull request as the issues listing shows it."""
        url = f"{self.repo_url(repo)}/issues/{row['number']}"
        people = [self.user(login) for login in assignees]
        html = f"{self.repo_html(repo)}/{'pull' if row['is_pull'] else 'issues'}/{row['number']}"
        value: Json = {
            "id": row["id"], "node_id": node_id("Issue", row["id"]), "url": url,
            "repository_url": self.repo_url(repo), "labels_url": f"{url}/labels{{/name}}",
            "comments_url": f"{url}/comments", "events_url": f"{url}/events", "html_url": html,
            "number": row["number"], "title": row["title"], "body": row["body"] or None,
            "state": row["state"], "state_reason": row["state_reason"], "locked": False, "active_lock_reason": None,
            "user": self.user(row["author"]), "author_association": row["association"],
            "labels": [self.label(repo, label) for label in labels], "assignee": people[0] if people else None,
            "assignees": people, "milestone": None, "comments": row["comments"],
            "created_at": row["created_at"], "updated_at": row["updated_at"], "closed_at": row["closed_at"],
            "closed_by": self.user(row["closed_by"]) if row["closed_by"] else None,
        }  # fmt: skip
        if row["is_pull"]:
            value["pull_request"] = {
                "url": f"{self.repo_url(repo)}/pulls/{row['number']}", "html_url": html,
                "diff_url": f"{html}.diff", "patch_url": f"{html}.patch",
            }  # fmt: skip
        return value

    def comment(self, repo: sqlite3.Row, number: int, row: sqlite3.Row) -> Json:
        """A comment of an issue or pull request."""
        issue_url = f"{self.repo_url(repo)}/issues/{number}"
        return {
            "id": row["id"], "node_id": node_id("IssueComment", row["id"]),
            "url": f"{self.repo_url(repo)}/issues/comments/{row['id']}", "issue_url": issue_url,
            "html_url": f"{self.repo_html(repo)}/issues/{number}#comment-{row['id']}", "body": row["body"],
            "user": self.user(row["author"]), "author_association": row["association"],
            "created_at": row["created_at"], "updated_at": row["updated_at"],
        }  # fmt: skip

    def _side(self, repo: sqlite3.Row, branch: str, sha: str) -> Json:
        return {
            "label": f"{repo['owner']}:{branch}", "ref": branch, "sha": sha,
            "user": self.user(repo["owner"], "Organization"), "repo": self.repository(repo),
        }  # fmt: skip

    def pull(
        self,
        repo: sqlite3.Row,
        row: sqlite3.Row,
        labels: Sequence[sqlite3.Row],
        assignees: Sequence[str],
        reviewers: Sequence[str],
    ) -> Json:
        """A pull request as listings show it."""
        url = f"{self.repo_url(repo)}/pulls/{row['number']}"
        issue = self.issue(repo, row, labels, assignees)
        shared = (
            "number", "title", "body", "state", "locked", "active_lock_reason", "user", "author_association",
            "labels", "assignee", "assignees", "milestone", "created_at", "updated_at", "closed_at",
        )  # fmt: skip
        return {
            "id": row["id"], "node_id": node_id("PullRequest", row["id"]), "url": url, "issue_url": issue["url"],
            "html_url": issue["html_url"], "diff_url": f"{issue['html_url']}.diff",
            "patch_url": f"{issue['html_url']}.patch", "commits_url": f"{url}/commits",
            "comments_url": issue["comments_url"], "review_comments_url": f"{url}/comments",
            "statuses_url": f"{self.repo_url(repo)}/statuses/{row['head_sha']}",
            **{key: issue[key] for key in shared},
            "draft": bool(row["draft"]), "merged_at": row["merged_at"], "merge_commit_sha": row["merge_commit_sha"],
            "requested_reviewers": [self.user(login) for login in reviewers], "requested_teams": [],
            "auto_merge": None,
            "head": self._side(repo, row["head_ref"], row["head_sha"]),
            "base": self._side(repo, row["base_ref"], row["base_sha"]),
            "_links": {"self": {"href": url}, "html": {"href": issue["html_url"]}, "issue": {"href": issue["url"]}},
        }  # fmt: skip

    def pull_detail(
        self, value: Json, row: sqlite3.Row, mergeable: bool | None, changes: Sequence[FileChange]
    ) -> Json:
        """The fields that only a single pull request has, added to ``value``."""
        state = "unknown" if mergeable is None else ("clean" if mergeable else "dirty")
        return {
            **value, "merged": row["merged_at"] is not None, "mergeable": mergeable, "mergeable_state": state,
            "rebaseable": False, "merged_by": self.user(row["merged_by"]) if row["merged_by"] else None,
            "comments": row["comments"], "review_comments": 0, "maintainer_can_modify": False,
            "additions": sum(c.additions for c in changes), "deletions": sum(c.deletions for c in changes),
            "changed_files": len(changes),
        }  # fmt: skip

    def file(self, repo: sqlite3.Row, sha: str, change: FileChange) -> Json:
        """One file of a pull request."""
        value: Json = {
            "sha": change.sha, "filename": change.path, "status": change.status, "additions": change.additions,
            "deletions": change.deletions, "changes": change.additions + change.deletions,
            "blob_url": f"{self.repo_html(repo)}/blob/{sha}/{change.path}",
            "raw_url": f"{self.repo_html(repo)}/raw/{sha}/{change.path}",
            "contents_url": f"{self.repo_url(repo)}/contents/{change.path}?ref={sha}",
        }  # fmt: skip
        if change.patch:
            value["patch"] = change.patch
        if change.previous is not None:
            value["previous_filename"] = change.previous
        return value

    def commit(self, repo: sqlite3.Row, info: CommitInfo) -> Json:
        """A commit."""
        url = f"{self.repo_url(repo)}/commits/{info.sha}"
        person = {"name": info.author_name, "email": info.author_email, "date": info.date}
        return {
            "sha": info.sha, "node_id": "", "url": url, "html_url": f"{self.repo_html(repo)}/commit/{info.sha}",
            "commit": {
                "url": url, "author": person, "committer": person, "message": info.message,
                "tree": {"sha": info.tree, "url": ""}, "comment_count": 0,
                "verification": {"verified": False, "reason": "unsigned", "signature": None, "payload": None},
            },
            "author": None, "committer": None,
            "parents": [{"sha": sha, "url": f"{self.repo_url(repo)}/commits/{sha}"} for sha in info.parents],
        }  # fmt: skip

    def branch(self, repo: sqlite3.Row, name: str, sha: str) -> Json:
        """A branch."""
        url = f"{self.repo_url(repo)}/commits/{sha}"
        return {"name": name, "commit": {"sha": sha, "url": url}, "protected": False, "protection_url": ""}

    def ref(self, repo: sqlite3.Row, ref: str, sha: str, kind: str = "commit") -> Json:
        """A git ref."""
        tail = ref.removeprefix("refs/")
        target = {"type": kind, "sha": sha, "url": f"{self.repo_url(repo)}/git/{kind}s/{sha}"}
        return {"ref": ref, "node_id": "", "url": f"{self.repo_url(repo)}/git/refs/{tail}", "object": target}

    def entry(self, repo: sqlite3.Row, entry: TreeEntry, commit: str, content: bytes | None = None) -> Json:
        """A file or folder of a tree; with its content where that is given."""
        kind = {"blob": "file", "tree": "dir", "commit": "submodule"}.get(entry.kind, "file")
        url = f"{self.repo_url(repo)}/contents/{entry.path}?ref={commit}"
        value: Json = {
            "type": kind, "size": entry.size_bytes or 0, "name": entry.path.rpartition("/")[2], "path": entry.path,
            "sha": entry.sha, "url": url, "git_url": f"{self.repo_url(repo)}/git/{entry.kind}s/{entry.sha}",
            "html_url": f"{self.repo_html(repo)}/blob/{commit}/{entry.path}", "download_url": None,
            "_links": {"self": url, "git": "", "html": ""},
        }  # fmt: skip
        if content is not None:
            value |= {"encoding": "base64", "content": base64.encodebytes(content).decode()}
        return value

    def status(self, repo: sqlite3.Row, row: sqlite3.Row) -> Json:
        """A commit status."""
        return {
            "id": row["id"], "node_id": node_id("Status", row["id"]), "avatar_url": None, "state": row["state"],
            "url": f"{self.repo_url(repo)}/statuses/{row['sha']}", "description": row["description"],
            "target_url": row["target_url"], "context": row["context"], "created_at": row["created_at"],
            "updated_at": row["created_at"], "creator": self.user(row["author"]),
        }  # fmt: skip

    def hook(self, repo: sqlite3.Row, row: sqlite3.Row) -> Json:
        """A webhook; its secret is never told."""
        url = f"{self.repo_url(repo)}/hooks/{row['id']}"
        return {
            "type": "Repository", "id": row["id"], "name": "web", "active": bool(row["active"]),
            "events": json.loads(row["events"]),
            "config": {
                "url": row["url"], "content_type": "json", "insecure_ssl": "0",
                **({"secret": "********"} if row["secret"] else {}),
            },
            "created_at": row["created_at"], "updated_at": row["updated_at"], "url": url,
            "test_url": f"{url}/tests",
            "ping_url": f"{url}/pings", "deliveries_url": f"{url}/deliveries",
            "last_response": {"code": row["last_status"], "status": "unused", "message": row["last_error"] or None},
        }  # fmt: skip
