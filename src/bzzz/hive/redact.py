"""Secrets, taken out of text before anybody stores or shows it.

Pure. Known are the shapes that token makers give their tokens so that leaks can be found (docs.github.com, "About
secret scanning"), ``Authorization`` headers, passwords in URLs, private keys, assignments to names that say what
they hold, and the values of this Hive's own secrets. What has no shape and is not ours cannot be known: a client
should not send secrets. Every expression is bounded, so that hostile text costs time in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

MARK = "[secret]"
VALUE_CHARACTERS_MIN = 8
DEPTH_MAX = 100

_TOKEN = (
    r"gh[opsur]_[A-Za-z0-9]{20,255}",
    r"github_pat_\w{20,255}",
    r"gl(?:pat|dt|rt|ptt|ft|soat)-[\w-]{16,255}",
    r"sk-(?=[\w-]{0,80}\d)[\w-]{16,255}",
    r"[rs]k_(?:live|test)_\w{16,255}",
    r"xox[abeoprs]-[\w-]{10,255}",
    r"xapp-[\w-]{10,255}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}",
    r"AIza[\w-]{35}",
    r"ya29\.[\w-]{20,512}",
    r"npm_[A-Za-z0-9]{30,100}",
    r"pypi-[\w-]{30,512}",
    r"hf_[A-Za-z0-9]{20,100}",
    r"dop_v1_[0-9a-f]{40,100}",
    r"SG\.[\w-]{16,64}\.[\w-]{16,128}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{40,100}",
    r"bz[fh]_[\w-]{16,128}",
    r"eyJ[\w-]{8,4096}\.eyJ[\w-]{8,8192}\.[\w-]{0,4096}",
)

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:\s{0,8}(?:Proc-Type|DEK-Info|Version|Comment):[^\r\n]{0,200}){0,4}"
            r"[^-]{0,20000}(?:-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?"
        ),
        MARK,
    ),
    (
        re.compile(
            r"\b((?:proxy-)?authorization[\"']?\s{0,8}[:=]\s{0,8}[\"']?)"
            r"(?:(?:bearer|basic|token|digest|negotiate)\s{1,8})?(?!\[secret\])[^\s\"',;]{1,8192}",
            re.IGNORECASE,
        ),
        rf"\1{MARK}",
    ),
    (re.compile(r"\b(bearer\s{1,8})[\w.~+/=-]{16,8192}", re.IGNORECASE), rf"\1{MARK}"),
    (re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(_TOKEN)})"), MARK),
    (re.compile(r"\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@:\"'<>]{0,200}:[^\s/@\"'<>]{1,400}@"), rf"\1{MARK}@"),
    (re.compile(r"\b(https?://)[^\s/@:\"'<>\[\]]{16,400}@"), rf"\1{MARK}@"),
    (
        re.compile(
            r"\b((?:[A-Z][A-Z0-9]{0,30}_){0,4}(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_KEY|ACCESS_KEY)"
            r"(?:_[A-Z0-9]{1,30}){0,2}\s{0,4}[=:]\s{0,4}[\"']?)(?![$<{\[(])[^\s\"',;]{6,8192}"
        ),
        rf"\1{MARK}",
    ),
    (
        re.compile(
            r"\b((?:password|passwd|client_secret|secret_key|api[_-]?key|access[_-]token|refresh[_-]token|auth[_-]token)"
            r"[\"']?\s{0,4}[=:]\s{0,4}([\"']))(?![$<{\[(])[^\"'\r\n]{6,400}(\2)",
            re.IGNORECASE,
        ),
        rf"\1{MARK}\3",
    ),
)

_SECRET_NAMES = frozenset(
    "authorization proxyauthorization xapikey apikey password passwd secret clientsecret secretkey accesstoken "
    "refreshtoken idtoken authtoken privatekey token githubtoken cookie setcookie xhubsignature256".split()
)


@dataclass(slots=True)
class Redactor:
    """Takes secrets out of texts and JSON values.

    Args:
        values: secrets of this Hive; those shorter than ``VALUE_CHARACTERS_MIN`` are common words and left alone.
    """

    values: Iterable[str] = ()
    found: int = 0
    _own: re.Pattern[str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        known = {value.strip() for value in self.values if len(value.strip()) >= VALUE_CHARACTERS_MIN}
        known |= {quote(value, safe="") for value in known}
        if known:
            self._own = re.compile("|".join(re.escape(value) for value in sorted(known, key=len, reverse=True)))

    def text(self, text: str) -> str:
        """The text without secrets; ``found`` counts those that were there."""
        if self._own is not None:
            text, count = self._own.subn(MARK, text)
            self.found += count
        for pattern, replacement in _RULES:
            text, count = pattern.subn(replacement, text)
            self.found += count
        return text

    def value(self, value: Any, depth: int = 0) -> Any:
        """A JSON value without secrets, in its keys too; what stands under a name such as ``password`` is one.

        Raises:
            ValueError: it is nested deeper than ``DEPTH_MAX``.
        """
        if depth > DEPTH_MAX:
            raise ValueError(f"nested deeper than {DEPTH_MAX}")
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self._member(str(key), item, depth) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item, depth + 1) for item in value]
        return value

    def fresh(self) -> Redactor:
        """One that knows the same, and counts from zero; for use in another thread."""
        copy = Redactor()
        copy._own = self._own
        return copy

    def _member(self, key: str, value: Any, depth: int) -> Any:
        name = "".join(character for character in key.lower() if character.isalnum())
        if name in _SECRET_NAMES and isinstance(value, str) and value and value != MARK:
            self.found += 1
            return MARK
        return self.value(value, depth + 1)
