"""The API's endpoints for webhooks."""

from __future__ import annotations

from bzzz.forge.embedded import hook
from bzzz.forge.embedded.account import Scope
from bzzz.forge.embedded.call import Answer, Call, Handler
from bzzz.forge.embedded.refusal import invalid


def list_hooks(call: Call) -> Answer:
    """``GET .../hooks``."""
    with call.forge.store.read() as db:
        repo = call.repo(db)
        rows = hook.select(db, repo)
    limit, offset = call.window()
    return call.paged([call.forge.shape.hook(repo, row) for row in rows[offset : offset + limit]], len(rows))


def create_hook(call: Call) -> Answer:
    """``POST .../hooks``; a ping follows."""
    config = call.field("config", dict, resource="Hook")
    url, secret = config.get("url"), config.get("secret") or ""
    if not isinstance(url, str) or not isinstance(secret, str):
        raise invalid("Hook", "url", "config.url and config.secret must be strings", "invalid")
    events = [str(each) for each in call.field("events", list, ["push"])]
    with call.forge.store.write() as db:
        repo = call.repo(db)
        active = call.field("active", bool, True)
        row = hook.add(db, repo, url, secret, events=events, now=call.forge.now(), active=active)
        call.forge.herald.tell(
            db, repo, call.actor, "ping", {"zen": "Keep it logically awesome.", "hook_id": row["id"]}
        )
        return Answer(call.forge.shape.hook(repo, row), 201)


def patch_hook(call: Call) -> Answer:
    """``PATCH .../hooks/{id}``."""
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = hook.find(db, repo, call.path["hook_id"])
        config = call.field("config", dict, {}, "Hook")
        url, secret = config.get("url", row["url"]), config.get("secret", row["secret"])
        events = [str(each) for each in call.field("events", list, hook.events_of(row))]
        if not isinstance(url, str) or not isinstance(secret, str):
            raise invalid("Hook", "url", "config.url and config.secret must be strings", "invalid")
        hook.check(url, events)
        db.execute(
            "UPDATE hook SET url = ?, secret = ?, events = ?, active = ?, updated_at = ? WHERE id = ?",
            (
                url, secret, hook.events_text(events), int(call.field("active", bool, bool(row["active"]))),
                call.forge.now(), row["id"],
            ),
        )  # fmt: skip
        return Answer(call.forge.shape.hook(repo, hook.find(db, repo, row["id"])))


def get_hook(call: Call) -> Answer:
    """``GET .../hooks/{id}``."""
    with call.forge.store.read() as db:
        repo = call.repo(db)
        return Answer(call.forge.shape.hook(repo, hook.find(db, repo, call.path["hook_id"])))


def delete_hook(call: Call) -> Answer:
    """``DELETE .../hooks/{id}``."""
    with call.forge.store.write() as db:
        row = hook.find(db, call.repo(db), call.path["hook_id"])
        db.execute("DELETE FROM hook WHERE id = ?", (row["id"],))
    return Answer(status=204)


_R = "/repos/{owner}/{name}"

ROUTES: tuple[tuple[str, str, Scope, Handler], ...] = (
    ("GET", f"{_R}/hooks", Scope.ADMIN, list_hooks),
    ("POST", f"{_R}/hooks", Scope.ADMIN, create_hook),
    ("GET", f"{_R}/hooks/{{hook_id:int}}", Scope.ADMIN, get_hook),
    ("PATCH", f"{_R}/hooks/{{hook_id:int}}", Scope.ADMIN, patch_hook),
    ("DELETE", f"{_R}/hooks/{{hook_id:int}}", Scope.ADMIN, delete_hook),
)
