"""What a Hive is started with, as plain values.

Reading files, the environment and flags is the configuration's and the CLI's part; here the values only
get their names, units and defaults. Secrets stand here as paths: ``read_keys`` and ``read_secret`` open
them, at start, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from bzzz.errors import SettingError
from bzzz.hive.key import Role

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
    A page of tasks serves for ``page_ttl_s``, and ``page_stale_s_max`` longer while it is rendered anew: claims and
    reports in it are hints, and nobody is to wait for a forge.
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
    listing_ttl_s: float = 30.0
    claims_ttl_s: float = 5.0
    page_ttl_s: float = 1.0
    page_stale_s_max: float = 10.0
    keep_alive_s: int = 75
    ready_wait_s: float = 2.0
    forge_parallel_max: int = 8
    repositories_cached_max: int = 1000
    subscribers_max: int = 1000
    pending_changes_max: int = 256
    shutdown_s_max: float = 5.0
    captures_max: int = 500_000
    rate_per_s: float = 50.0
    rate_burst: int = 200
    wrong_rate_per_s: float = 1.0
    wrong_rate_burst: int = 20

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


def read_keys(path: Path | None) -> Mapping[str, Role]:
    """API keys, one a line, with a role before each that is not an administrator's: ``node KEY``.

    Empty lines and lines that begin with ``#`` are left out.

    Raises:
        SettingError: the file cannot be read, holds no key, or a key is too short to be a secret.
    """
    if path is None:
        return {}
    keys: dict[str, Role] = {}
    for line in _read(path, "hive.key_file").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            role = Role.parse(words[0]) if len(words) > 1 else Role.ADMIN
        except ValueError:
            allowed = "a line is a key, or read, node or admin and a key"
            raise SettingError(str(path), "hive.key_file", "another line", allowed) from None
        if len(words) > 2 or len(words[-1]) < KEY_CHARACTERS_MIN or not words[-1].isascii():
            allowed = f"a key is at least {KEY_CHARACTERS_MIN} ASCII characters without spaces"
            raise SettingError(str(path), "hive.key_file", "a short or unusual key", allowed)
        keys[words[-1]] = role
    if not keys:
        raise SettingError(str(path), "hive.key_file", "no key", "write one key a line into it")
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


def credential(name: str, environment: Mapping[str, str]) -> Path | None:
    """The file of a systemd credential (systemd.exec(5), "Credentials"); ``None`` where there is none of that name.

    Docker's secrets are files too, below ``/run/secrets``; a setting's ``_FILE`` form names them.
    """
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / name
    return path if path.is_file() else None


def password_of(url: str) -> str:
    """The password in a URL, as it is sent; empty if there is none."""
    try:
        parts = urlsplit(url)
        return unquote(parts.password or "") or dict(parse_qsl(parts.query)).get("password", "")
    except ValueError:
        return ""


def has_password(url: str) -> bool:
    """Whether a URL holds a password, in its authority or among its parameters."""
    try:
        parts = urlsplit(url)
        return parts.password is not None or "password" in dict(parse_qsl(parts.query))
    except ValueError:
        return True  # unreadable: it may


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
