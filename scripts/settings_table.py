"""Writes the README's table of settings from the one table that the settings are read by."""

from __future__ import annotations

from pathlib import Path

from bzzz.config import describe

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- settings: made by scripts/settings_table.py -->\n"
END = "<!-- end of settings -->\n"


def table() -> str:
    """The settings as a Markdown table."""
    lines = ["| setting | default | variable | meaning |", "|---|---|---|---|"]
    for row in describe():
        default = f"`{row['default']}`" if row["default"] else ""
        variable = f"`{row['env']}`" if row["env"] else ""
        lines.append(f"| `{row['key']}` | {default} | {variable} | {row['meaning']} |")
    return "\n".join(lines) + "\n"


def rewritten(text: str) -> str:
    """The README with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text()))
