"""API keys in the database: made, found by their digest, listed and revoked.

Synchronous and safe in threads, as ``HiveStore`` is, whose engines it shares. A revoked key's row stays, so that
the list tells who had access, and a Hive that once had keys does not fall back to asking for none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from bzzz.errors import UsageError
from bzzz.hive.capture_store import utc
from bzzz.hive.database import exclusively, glance
from bzzz.hive.key import KeyInfo, Role, digest, shown
from bzzz.hive.model import KeyRow
from bzzz.ports import Clock

KEYS_MAX = 10_000


class KeyStore:
    """The keys of one database.

    Args:
        reader: an engine for reading.
        writer: an engine for writing.
        clock: for the times that people read.
    """

    def __init__(self, reader: Engine, writer: Engine, clock: Clock) -> None:
        self._glance = glance(reader)
        self._writer = writer
        self._clock = clock

    def any(self) -> bool:
        """Whether there ever was a key."""
        with Session(self._glance) as session:
            return session.scalar(select(KeyRow.id).limit(1)) is not None

    def in_force(self) -> Mapping[str, KeyInfo]:
        """All keys that are not revoked, by their digest; at most ``KEYS_MAX``."""
        with Session(self._glance) as session:
            rows = session.scalars(select(KeyRow).where(KeyRow.revoked_at.is_(None)))
            return {row.digest: _read(row) for row in rows}

    def list(self) -> Sequence[KeyInfo]:
        """All keys, revoked ones too, oldest first."""
        with Session(self._glance) as session:
            return [_read(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.id))]

    def add(self, name: str, role: Role, key: str) -> KeyInfo:
        """Keep the digest of a new key.

        Raises:
            UsageError: a key in force has this name, or there are too many.
        """
        with Session(self._writer) as session, session.begin():
            exclusively(session.connection())
            taken = select(KeyRow.id).where(KeyRow.name == name, KeyRow.revoked_at.is_(None))
            if session.scalar(taken) is not None:
                raise UsageError(f"a key {name!r} is in force; revoke it first, or choose another name")
            if (session.scalar(select(func.count()).select_from(KeyRow)) or 0) >= KEYS_MAX:
                raise UsageError(f"there are {KEYS_MAX} keys already")
            row = KeyRow(
                name=name,
                role=role.word,
                digest=digest(key),
                shown=shown(key),
                created_at=self._now(),
                used_at=None,
            )
            session.add(row)
            session.flush()
            return _read(row)

    def revoke(self, name: str) -> KeyInfo | None:
        """End the key of this name; ``None`` if none is in force."""
        with Session(self._writer) as session, session.begin():
            row = session.scalar(select(KeyRow).where(KeyRow.name == name, KeyRow.revoked_at.is_(None)))
            if row is None:
                return None
            row.revoked_at = self._now()
            session.flush()
            return _read(row)

    def note_use(self, key_ids: Sequence[int]) -> None:
        """Remember that keys were used just now."""
        with Session(self._writer) as session, session.begin():
            session.execute(update(KeyRow).where(KeyRow.id.in_(key_ids)).values(used_at=self._now()))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_s(), UTC)


def _read(row: KeyRow) -> KeyInfo:
    return KeyInfo(
        id=row.id,
        name=row.name,
        role=Role.parse(row.role),
        shown=row.shown,
        created_at=_iso(row.created_at),
        used_at=_iso(row.used_at),
        revoked_at=_iso(row.revoked_at),
    )


def _iso(moment: datetime | None) -> str:
    return "" if moment is None else utc(moment).isoformat(timespec="seconds").replace("+00:00", "Z")
