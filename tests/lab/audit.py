"""What was written to the API server, by whom: read from its audit log. Tests count with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Write:
    """One request that changes something, as the API server answered it."""

    time: str
    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    status: int
    user_agent: str


@dataclass(frozen=True)
class AuditLog:
    """The API server's audit log. Reads are not in it (components.AUDIT_POLICY)."""

    path: Path

    def mark(self) -> int:
        """The present end of the log, for `writes`."""
        return self.path.stat().st_size if self.path.exists() else 0

    def writes(self, since: int = 0) -> list[Write]:
        """All writes logged after `since`, oldest first. Leases, refused and dry-run requests included."""
        return [_parse(event) for event in self._events(since)]

    def _events(self, since: int) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            stream.seek(since)
            for line in stream:
                # the last line may be half written, or cut off by a kill
                if line.endswith(b"}\n"):
                    event = json.loads(line)
                    # a non-resource request changes nothing
                    if "objectRef" in event:
                        yield event


def _parse(event: dict[str, Any]) -> Write:
    target = event["objectRef"]
    return Write(
        time=event["requestReceivedTimestamp"],
        user=event["user"].get("username", ""),
        verb=event["verb"],
        group=target.get("apiGroup", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        status=event.get("responseStatus", {}).get("code", 0),
        user_agent=event.get("userAgent", ""),
    )
