"""Which pages are made from the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from docgen import api, metrics, words

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference"

PAGES: Mapping[Path, Callable[[], str]] = {
    REFERENCE / "api.md": api.reference,
    REFERENCE / "conditions.md": words.conditions,
    REFERENCE / "events.md": words.events,
    REFERENCE / "metrics.md": metrics.metrics,
}


def stale() -> list[Path]:
    """The pages that are not what the code says now."""
    return [path for path, make in PAGES.items() if not path.exists() or path.read_text() != make()]
