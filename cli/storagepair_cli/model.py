"""What is checked, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Json = Any  # dicts with string keys, lists, strings, numbers, booleans, None


class Severity(StrEnum):
    """How bad it is: an error refuses the files, a warning and a note don't."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Document:
    """One object of the files. `positions` has a place by field path (`spec.nodes[0].disk`); "" is the whole."""

    value: Mapping[str, Json]
    positions: Mapping[str, Position]

    @property
    def api_version(self) -> str:
        return _text(self.value.get("apiVersion"))

    @property
    def kind(self) -> str:
        return _text(self.value.get("kind"))

    @property
    def name(self) -> str:
        return _text(self._metadata.get("name"))

    @property
    def namespace(self) -> str:
        """Its own, "" when it names none."""
        return _text(self._metadata.get("namespace"))

    @property
    def _metadata(self) -> Mapping[str, Json]:
        metadata = self.value.get("metadata")
        return metadata if isinstance(metadata, dict) else {}

    def position(self, path: str) -> Position:
        """Where a field is, or else the nearest part above it that is written down."""
        while path and path not in self.positions:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.positions[path]


@dataclass(frozen=True, slots=True)
class Object:
    """An object's name, as findings give it. `namespace` is "" for what has none."""

    kind: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {'/'.join(part for part in (self.namespace, self.name) if part)}".strip()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `rule` is its kind, such as `schema/pattern`, `cel` or `pairs/NumberInUse`."""

    severity: Severity
    rule: str
    position: Position
    about: Object
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A rule of the schema that can't be judged without a cluster: said, so that nobody takes it for kept."""

    kind: str
    field: str
    rule: str
    message: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """All that a run says."""

    findings: tuple[Finding, ...] = ()
    checked: tuple[tuple[Object, Position], ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)  # `apps/v1 Deployment`: how many
    unchecked: tuple[Unchecked, ...] = ()
    files: int = 0

    def count(self, severity: Severity) -> int:
        """How many findings are of a severity."""
        return sum(1 for finding in self.findings if finding.severity is severity)

    @property
    def unreadable(self) -> bool:
        """Whether something could not be read at all."""
        return any(finding.rule == UNREADABLE for finding in self.findings)


UNREADABLE = "unreadable"


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
