"""Markdown that a forge and the site render alike."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

GENERATED = "<!-- Made from the code by `make reference`. Edit the code, not this page. -->"

_MARKUP = {char: f"&#{ord(char)};" for char in r"\`*_{}[]|~"}


def code(text: str) -> str:
    """Code that may stand in a table. A `|` in backticks is read in two ways, so then every sign is an entity."""
    if not set(text) & set("|`"):
        return f"`{text}`"
    return f"<code>{''.join(_MARKUP.get(char, html.escape(char, quote=False)) for char in text)}</code>"


def cell(text: str) -> str:
    """Text for a table's cell."""
    return re.sub(r"\s+", " ", text).strip().replace("|", "&#124;")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines, with an empty one after it."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def page(title: str, *parts: Iterable[str]) -> str:
    """A whole generated page."""
    lines = [f"# {title}", "", GENERATED, ""]
    for part in parts:
        lines += part
    return "\n".join(lines).rstrip() + "\n"
