"""API keys: made, listed and revoked by an administrator. A key is shown once, in the answer that made it."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from bzzz.hive.key import NAME_CHARACTERS_MAX, KeyInfo, Role, check_key_name, make_key
from bzzz.hive.part import PartsIn
from bzzz.hive.schema import ErrorAnswer

KEY_BYTES = 32

router = APIRouter()

RoleWord = Literal["read", "node", "admin"]


class KeyDraft(BaseModel):
    """A new key: its name for people, and what it may do."""

    name: str = Field(min_length=1, max_length=NAME_CHARACTERS_MAX)
    role: RoleWord = "node"


class KeyAnswer(BaseModel):
    """A key as it may be listed; ``shown`` is its beginning."""

    id: int
    name: str
    role: RoleWord
    shown: str
    created_at: str
    used_at: str
    revoked_at: str

    @classmethod
    def of(cls, info: KeyInfo, **more: str) -> KeyAnswer:
        """From a key of the store."""
        value = {
            name: getattr(info, name) for name in ("id", "name", "shown", "created_at", "used_at", "revoked_at")
        }
        return cls.model_validate({**value, "role": info.role.word, **more})


class NewKeyAnswer(KeyAnswer):
    """The key itself, this once."""

    key: str


class KeysAnswer(BaseModel):
    """All keys, revoked ones too."""

    keys: list[KeyAnswer]


MADE: dict[int | str, dict[str, Any]] = {409: {"model": ErrorAnswer}}
GONE: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer}}


def new_key() -> str:
    """A key that nobody can guess."""
    return make_key(secrets.token_urlsafe(KEY_BYTES))


@router.get("/api/bzzz/keys")
async def list_keys(parts: PartsIn) -> KeysAnswer:
    """All keys, without the keys themselves."""
    found = await run_in_threadpool(parts.store.keys.list)
    return KeysAnswer(keys=[KeyAnswer.of(info) for info in found])


@router.post("/api/bzzz/keys", status_code=201, responses=MADE)
async def add_key(parts: PartsIn, draft: KeyDraft) -> NewKeyAnswer:
    """Make a key. The first one made ends that this machine is served without any."""
    try:
        name = check_key_name(draft.name)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    key = new_key()
    info = await run_in_threadpool(parts.store.keys.add, name, Role.parse(draft.role), key)
    parts.keyring.forget()
    return NewKeyAnswer.model_validate({**KeyAnswer.of(info).model_dump(), "key": key})


@router.delete("/api/bzzz/keys/{name}", responses=GONE)
async def revoke_key(
    parts: PartsIn, name: Annotated[str, Path(max_length=NAME_CHARACTERS_MAX, pattern=r"^[^\x00]*$")]
) -> KeyAnswer:
    """End a key at once."""
    info = await run_in_threadpool(parts.store.keys.revoke, name)
    if info is None:
        raise HTTPException(404, f"no key {name[:80]!r} is in force")
    parts.keyring.forget()
    return KeyAnswer.of(info)
