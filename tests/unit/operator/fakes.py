"""An API server of a few lines: answers by method and path, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml
from storagepair_crds.views import API_VERSION, Struct, document
from storagepair_operator import policies
from storagepair_operator.cluster import ApiError
from storagepair_operator.kinds import Kind

STRANGER = "stranger"
_MANIFESTS = Path(__file__).parents[3] / "manifests" / "policies"


def standing() -> dict[str, Any]:
    """The admission policies and their bindings as the manifests have them, by the request that reads each."""
    found = [each for file in sorted(_MANIFESTS.glob("*.yaml")) for each in yaml.safe_load_all(file.read_text())]
    return {f"GET {policies.path(each['kind'], each['metadata']['name'])}": each for each in found}


@dataclass
class FakeCluster:
    """Stands in for `Cluster`: `answers` by "METHOD path", a document or an `ApiError`; else nothing is there but the
    admission policies.

    With `writable` everything else can be written; the answers are then an object's that nobody knows (`STRANGER`).
    """

    answers: dict[str, object] = field(default_factory=dict)
    writable: bool = False
    asked: list[tuple[str, Any]] = field(default_factory=list)
    policies: dict[str, Any] = field(default_factory=standing)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        request = f"{method} {path}"
        self.asked.append((request, msgspec.json.decode(msgspec.json.encode(body))))
        nothing = ApiError(404, "NotFound", f"{request}: nothing there")
        written = {"metadata": {"uid": STRANGER, "resourceVersion": "1"}}
        unknown = written if self.writable and method != "GET" else self.policies.get(request, nothing)
        answer = self.answers.get(request, unknown)
        if isinstance(answer, ApiError):
            raise answer
        return msgspec.json.encode(answer)

    async def read(self, path: str) -> dict[str, Any]:
        result: dict[str, Any] = msgspec.json.decode(await self.call("GET", path))
        return result

    @property
    def requests(self) -> list[str]:
        """What was asked, without the bodies."""
        return [request for request, _ in self.asked]


def as_document(kind: Kind, struct: Struct, version: int = 10, **metadata: object) -> dict[str, Any]:
    """An object as a watch delivers it."""
    body = {"apiVersion": API_VERSION, "kind": kind.name, **document(struct)}
    body["metadata"] = {**body["metadata"], "resourceVersion": str(version), **metadata}
    return body


def listing(*uids: tuple[str, int], version: int = 100) -> dict[str, Any]:
    """A PartialObjectMetadataList."""
    items = [{"metadata": {"uid": uid, "resourceVersion": str(each)}} for uid, each in uids]
    return {"metadata": {"resourceVersion": str(version)}, "items": items or None}
