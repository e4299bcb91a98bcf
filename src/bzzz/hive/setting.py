"""What a Hive is started with, as plain values.

Reading files, the environment and flags is the configuration's and the CLI's part; here the values only
get their names, units and defaults. Secrets stand here as paths: ``read_keys`` and ``read_secret`` open
them, at start, and nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bzzz.errors import SettingError

REQUEST_BYTES_MAX = 4 * 1024 * 1024
METADATA_BYTES_MAX = 64 * 1024
SECRET_FILE_BYTES_MAX = 64 * 1024
KEY_CHARACTERS_MIN = 16


@dataclass(frozen=True, slots=True)
class HiveSettings:
    """Settings of one Hive.

    ``database_url`` is SQLAlchemy's; empty means an SQLite file in ``data_dir``. ``base_url`` is how others
    reach this Hive; empty means ``host`` and ``port``. ``forge_base_url`` is where a project named only by
    ``owner/name`` is looked for; the composition root sets it to the embedded forge where that is mounted.
    """

    data_dir: Path
    database_url: str = ""
    host: str = "127.0.0.1"
    port: int = 8740
    base_url: str = ""
    forge_base_url: str = "https://github.com"
    key_file: Path | None = None
    webhook_secret_file: Path | None = None
    task_label: str = "bzzz-task"
    claim_ttl_s: int = 900
    listing_ttl_s: float = 15.0
    claims_ttl_s: float = 2.0
    ready_wait_s: float = 2.0
    forge_parallel_max: int = 8
    repositories_cached_max: int = 1000
    subscribers_max: int = 1000
    pending_changes_max: int = 256
    shutdown_s_max: float = 5.0

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or sqlite_url(self.data_dir / "hive.db")

    @property
    def public_url(self) -> str:
        """The base URL in force, without a slash at its end."""
        if self.base_url:
            return self.base_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def sqlite_url(path: Path) -> str:
    """The database URL of an SQLite file."""
    return f"sqlite:///{path}"


def read_keys(path: Path | None) -> tuple[str, ...]:
    """API keys, one a line; empty lines and lines that begin with ``#`` are left out.

    Raises:
        SettingError: the file cannot be read, holds no key, or a key is too short to be a secret.
    """
    if path is None:
        return ()
    lines = (line.strip() for line in _read(path, "hive.key_file").splitlines())
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise SettingError(str(path), "hive.key_file", "no key", "write one key a line into it")
    if any(len(key) < KEY_CHARACTERS_MIN or not key.isascii() for key in keys):
        allowed = f"a key is at least {KEY_CHARACTERS_MIN} ASCII characters"
        raise SettingError(str(path), "hive.key_file", "a short or unusual key", allowed)
    return keys


def read_secret(path: Path | None, key: str) -> str | None:
    """The secret in a file, without the white space around it; ``None`` where no file is named.

    Raises:
        SettingError: the file cannot be read or is empty; ``key`` names the setting.
    """
    if path is None:
        return None
    secret = _read(path, key).strip()
    if not secret:
        raise SettingError(str(path), key, "an empty file", "write the secret into it")
    return secret


def _read(path: Path, key: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_FILE_BYTES_MAX + 1)
        if len(data) > SECRET_FILE_BYTES_MAX:
            raise SettingError(str(path), key, "a large file", f"at most {SECRET_FILE_BYTES_MAX} bytes")
        return data.decode()
    except OSError as error:
        raise SettingError(str(path), key, str(path), f"a file that can be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingError(str(path), key, "bytes", "UTF-8 text") from None
