"""Where generated documents are written, and what is asked of each answer and of what came of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.crd_cases import ACL, LUN, MOVE, PAIR
from api.generated_documents import Case
from api.operator_world import API
from lab.apiclient import ApiClient
from storagepair_crds.schema import definitions, path_text

Json = Any
FINAL = ("Succeeded", "Refused", "Failed")

_FIELD = re.compile(r"\b(?:spec|metadata|status|kind|apiVersion)\b(?:\.\w+|\[[^\]]*\])*")

# a rule about two fields is said of one of them: what was changed -> what may be named instead
_RELATED = {
    "spec.bonds": ("spec.nodes", "spec.replication.bond", "spec.virtualIP", "spec.heartbeat.links"),
    "spec.nodes": ("spec.virtualIP.address", "spec.heartbeat.pingAddresses"),
    "spec.replication": ("spec.nodes",),
    "spec.virtualIP": ("spec.nodes", "spec.heartbeat.pingAddresses"),
    "spec.heartbeat": ("spec.nodes", "spec.heartbeat.deadtimeSeconds"),
    "spec.to": ("spec.from",),
}

# what the API server itself says of a request, without a path
_WORDS = {
    "metadata.name": ("metadata.name", "the name of the object", "name must be provided", "already exists"),
    "metadata.namespace": ("the namespace of the provided object does not match the namespace sent",),
    "metadata.uid": ("Precondition failed: UID",),
    "metadata.creationTimestamp": ("parsing time",),
    "metadata.deletionTimestamp": ("parsing time",),
    "metadata": ("name or generateName is required", "ObjectMeta", "name must be provided"),
    "kind": ("does not match the expected kind", "no kind", "Kind="),
    "apiVersion": ("does not match the expected", "no kind", "is not valid", "API version", "cannot be handled as"),
}


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    status: int
    body: Json

    @property
    def accepted(self) -> bool:
        return self.status < 300

    @property
    def text(self) -> str:
        """The message and the fields of its causes."""
        if not isinstance(self.body, dict):
            return str(self.body)
        causes = (self.body.get("details") or {}).get("causes") or []
        return " ".join([str(self.body.get("message", "")), *(str(cause.get("field", "")) for cause in causes)])


class Caller:
    """Requests whose refusals are answers. Thread-safe, as its client is."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client = ApiClient(kubeconfig)

    def __call__(self, method: str, path: str, body: str | None = None, kind: str = "application/json") -> Answer:
        return Answer(*self._client.send(method, path, body, kind, timeout=60))


def collection(case: Case) -> str:
    """The URL path where the case's document is written."""
    names = definitions()[case.kind]["spec"]
    middle = f"/namespaces/{case.namespace}" if names["scope"] == "Namespaced" else ""
    return f"{API}{middle}/{names['names']['plural']}"


def names_the_field(case: Case, answer: Answer) -> bool:
    """Whether a refusal says what is wrong: the field, one above or below it, or the other one of a rule about two."""
    if answer.status == 413 or not case.field:  # too large to be read at all; or no field is wrong (YAML, rights)
        return len(answer.text) > 10
    field = path_text([int(part) if part.isdigit() else part for part in case.field.split(".")])
    wanted = [field, *(others for head, all_ in _RELATED.items() if field.startswith(head) for others in all_)]
    named = _FIELD.findall(answer.text)
    if any(_within(one, other) or _within(other, one) for one in wanted for other in named):
        return True
    words = [word for head, all_ in _WORDS.items() if field.startswith(head) for word in all_]
    return any(word in answer.text for word in words)


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith((f"{outer}.", f"{outer}["))


def settled(kind: str, item: Json) -> bool:
    """Whether the operator has looked at an object as it is now."""
    status = item.get("status", {})
    if kind == MOVE:
        return status.get("phase") in FINAL
    accepted = condition(item, "Accepted")
    generation = item["metadata"]["generation"]
    return bool(status.get("observedGeneration") == generation and accepted.get("observedGeneration") == generation)


def condition(item: Json, type_: str) -> Json:
    """One condition of an object, {} when it has none such."""
    found = item.get("status", {}).get("conditions", [])
    return next((each for each in found if each["type"] == type_), {})


def verdict(kind: str, item: Json) -> tuple[bool, str]:
    """Whether it is carried out, and else what is said."""
    if kind == MOVE:
        return item["status"]["phase"] == "Succeeded", item["status"].get("message", "")
    accepted = condition(item, "Accepted")
    return accepted["status"] == "True", accepted.get("message", "")


def tells_why(kind: str, item: Json, message: str) -> bool:
    """Whether a refusal of the operator's names an object and the field; of a Switchover either is enough: what speaks
    against it is its own field, or another object's state."""
    objects = f"{PAIR}|{LUN}|{ACL}|{MOVE}|StorageNode|{re.escape(item['metadata']['name'])}"
    field = re.search(r"\bspec\.\w+|\bmetadata\.name", message) is not None
    named = re.search(rf"\b(?:{objects})\b", message) is not None
    return (field or named) if kind == MOVE else (field and named)
