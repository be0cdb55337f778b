"""The storage pair as a user sees it, through kubectl: apply, wait, look."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lab.kubectl import KubectlError
from lab.waiting import WaitTimeout

SAMPLE = Path(__file__).parents[2] / "manifests" / "samples" / "storagepair.yaml"
KINDS = "storagepairs,luns,initiatoracls,failovers"
READY_SECONDS = 600.0


class Kubectl(Protocol):
    """Whatever runs kubectl against the lab's API server, with the administrator's rights."""

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """The standard output; raises KubectlError."""


@dataclass(frozen=True)
class Pair:
    """One StoragePair."""

    cluster: Kubectl
    name: str = "vmstore"
    namespace: str = "default"

    def apply(self, *files: Path) -> str:
        """`kubectl apply -f` the sample, or other files."""
        arguments = [word for file in (files or (SAMPLE,)) for word in ("-f", str(file))]
        return self.cluster.kubectl("apply", "-n", self.namespace, *arguments)

    def get(self, kind: str, name: str = "") -> dict[str, Any]:
        """An object, or the list of a kind."""
        words = ["get", kind, *([name] if name else []), "-n", self.namespace, "-o", "json"]
        document: dict[str, Any] = json.loads(self.cluster.kubectl(*words))
        return document

    @property
    def status(self) -> dict[str, Any]:
        """The pair's status; {} before the operator has seen it."""
        status: dict[str, Any] = self.get("storagepairs", self.name).get("status", {})
        return status

    @property
    def active(self) -> str:
        """The name of the node that serves, as the operator says; "" when none does."""
        return str(self.status.get("active", ""))

    def condition(self, type_: str, kind: str = "storagepairs", name: str = "") -> dict[str, Any]:
        """One condition; {} when the object has none of that type."""
        status = self.get(kind, name or self.name).get("status", {})
        return next((c for c in status.get("conditions", []) if c["type"] == type_), {})

    def lun_identity(self, name: str = "datastore1") -> tuple[int, str]:
        """What an initiator knows a LUN by: number and serial."""
        status = self.get("lun", name)["status"]
        return status["number"], status["serial"]

    def failovers(self) -> list[dict[str, Any]]:
        """The specs of this pair's Failover objects, oldest first."""
        specs = [item["spec"] for item in self.get("failovers")["items"]]
        return sorted((s for s in specs if s["pairRef"]["name"] == self.name), key=lambda s: str(s["startTime"]))

    def wait_condition(
        self,
        type_: str,
        status: str = "True",
        *,
        seconds: float = READY_SECONDS,
        say: Callable[[str], None] | None = None,
    ) -> float:
        """Wait for a condition of the pair; `say` gets each new message of it. Returns the seconds it took."""
        started, said = time.monotonic(), ""
        while True:
            try:
                condition = self.condition(type_)
            except KubectlError as error:  # the API server may be on its way back
                condition = {"status": "Unknown", "message": str(error)}
            message = f"{condition.get('reason', 'not seen yet')}: {condition.get('message', '')}"
            if say and message != said:
                say(f"{type_} {condition.get('status', 'Unknown')}: {message}")
                said = message
            elapsed = time.monotonic() - started
            if condition.get("status") == status and self._current(condition):
                return elapsed
            if elapsed > seconds:
                raise WaitTimeout(f"{self.name}: {type_} is not {status} after {seconds:g} s: {message}")
            time.sleep(0.5)

    def wait_ready(self, *, seconds: float = READY_SECONDS, say: Callable[[str], None] | None = None) -> float:
        """Wait until the pair is Ready: both nodes, replication, service."""
        return self.wait_condition("Ready", seconds=seconds, say=say)

    def wait_failovers(self, count: int, *, seconds: float = 300) -> list[dict[str, Any]]:
        """Wait until this many Failover objects exist, and return them."""
        deadline = time.monotonic() + seconds
        while len(found := self.failovers()) < count:
            if time.monotonic() > deadline:
                raise WaitTimeout(f"{len(found)} Failover objects of {self.name} after {seconds:g} s, not {count}")
            time.sleep(0.5)
        return found

    def _current(self, condition: dict[str, Any]) -> bool:
        generation = self.get("storagepairs", self.name)["metadata"]["generation"]
        return bool(condition.get("observedGeneration", generation) == generation)
