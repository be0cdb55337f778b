"""What the operator's tests on a real API server stand on: its process, and a pair of the test's own."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from lab.apiclient import ApiClient, ApiError
from lab.audit import Write
from lab.controlplane import ControlPlane
from lab.kubectl import SCHEMAS, apply_crds, kubectl
from lab.waiting import SOON, wait_for
from storagepair_crds.views import (
    NodeSpec,
    view,
)

ROOT = Path(__file__).parents[2]
SYSTEM, ACCOUNT = "storagepair-system", "storagepair-operator"
USER = f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
API = "/apis/storagepair.dev/v1alpha1"
SAMPLE = ROOT / "manifests" / "samples" / "storagepair.yaml"
_numbers = itertools.count()


def prepare(plane: ControlPlane, root: Path = ROOT) -> None:
    """Policies, CRDs, and the accounts with their rights, as the manifests of a source tree have them."""
    manifests = root / "manifests"
    first = [
        name for name in ("namespace.yaml", "policies") if (manifests / name).exists()
    ]  # older trees have no policies
    kubectl(plane.admin_kubeconfig, "apply", *(f"--filename={manifests / name}" for name in first))
    apply_crds(plane.admin_kubeconfig, root / SCHEMAS.relative_to(ROOT))
    files = [f"--filename={manifests / name}" for name in ("operator-rbac.yaml", "node-agent-rbac.yaml")]
    kubectl(plane.admin_kubeconfig, "apply", *files)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


# as in its container: a user that no passwd file and no variable names. Files are root's, as root's they are read.
_AS_IN_A_CONTAINER = (
    *("env", "--unset=USER", "--unset=LOGNAME", "--unset=LNAME", "--unset=USERNAME"),
    *("unshare", "--user", "--map-user=65532", "--map-group=65532"),
)


class Operator:
    """The real process, with its own service account's token."""

    def __init__(
        self,
        plane: ControlPlane,
        *,
        server: str | None = None,
        audit_seconds: float = 2,
        silent_seconds: float | None = None,
        log_level: str = "debug",
        root: Path = ROOT,
    ) -> None:
        self._root = root
        self.plane = plane
        self.name = f"operator-{next(_numbers)}"
        self.log = plane.folder / f"{self.name}.log"
        self._port = free_port()
        path = plane.folder / f"{self.name}.kubeconfig"
        plane.service_account_kubeconfig(SYSTEM, ACCOUNT, path, server=server)
        self._argv = [
            *_AS_IN_A_CONTAINER,
            *(
                sys.executable,
                "-m",
                "storagepair_operator.main",
                "run",
                f"--kubeconfig={path}",
                f"--log-level={log_level}",
            ),
            *(f"--audit-seconds={audit_seconds}", f"--health-port={self._port}"),
            *([f"--agent-silent-seconds={silent_seconds}"] if silent_seconds is not None else []),
        ]

    def start(self, *, ready: bool = True) -> Operator:
        paths = os.pathsep.join(str(self._root / part) for part in ("crds", "operator"))
        self.plane.keeper.spawn(self.name, self._argv, log=self.log, env={"PYTHONPATH": paths})
        if ready:
            self.wait_ready()
        return self

    @property
    def pid(self) -> int:
        return self.plane.keeper.running()[self.name]

    @property
    def ready(self) -> bool:
        return self._get("/readyz") is not None

    @property
    def writes(self) -> int:
        """How many objects it has written, as it counts itself."""
        return self.metric("storagepair_operator_writes_total")

    def metric(self, name: str) -> int:
        """A metric's sum over its labels."""
        page = self._get("/metrics")
        assert page is not None, f"the operator does not tell its metrics; see {self.log}"
        return sum(int(line.split()[-1]) for line in page.splitlines() if line.startswith(name))

    def wait_ready(self, seconds: float = SOON) -> None:
        wait_for(lambda: self.ready, f"the operator to be ready; see {self.log}", seconds)

    def wait_log(self, words: str, seconds: float = SOON) -> None:
        wait_for(lambda: words in self.log.read_text(), f"{words!r} in {self.log}", seconds)

    def stop(self) -> int | None:
        self.plane.keeper.kill(self.name, signal.SIGTERM, timeout=120)
        return self.plane.keeper.exit_status(self.name)

    def crash(self) -> None:
        self.plane.keeper.kill(self.name)

    def _get(self, path: str) -> str | None:
        url = f"http://127.0.0.1:{self._port}{path}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())
        return None


@contextlib.contextmanager
def running(plane: ControlPlane, **options: Any) -> Iterator[Operator]:
    """An operator for the length of a block; it must end well."""
    operator = Operator(plane, **options).start()
    try:
        yield operator
    finally:
        assert operator.stop() == 0, operator.log.read_text()[-3000:]
        assert "a defect" not in operator.log.read_text()


@dataclass
class Pair:
    """A pair's documents in a namespace of its own, with machines and addresses of its own."""

    plane: ControlPlane
    namespace: str
    index: int = field(default_factory=lambda: next(_numbers))

    @property
    def nodes(self) -> tuple[str, str]:
        return f"n{self.index}a", f"n{self.index}b"

    @property
    def client(self) -> ApiClient:
        return self.plane.client()

    def documents(self, *, name: str = "vmstore", nodes: tuple[str, str] | None = None) -> list[dict[str, Any]]:
        """The sample, for these machines."""
        pair, lun, acl = yaml.safe_load_all(SAMPLE.read_text())
        pair["metadata"]["name"] = name
        for node, new in zip(pair["spec"]["nodes"], nodes or self.nodes, strict=True):
            node["name"] = new
        pair["spec"]["virtualIP"]["address"] = f"10.10.25.{self.index % 100 + 140}/24"
        pair["spec"]["targets"][0]["iqn"] = f"iqn.2011-03.org.weithenn:{name}.p{self.index}"
        for each in (lun, acl):
            each["spec"]["pairRef"]["name"] = name
        return [pair, lun, acl]

    def apply(self, *documents: dict[str, Any]) -> None:
        text = yaml.safe_dump_all(documents or self.documents())
        self.kubectl("apply", "--filename=-", stdin=text)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return kubectl(self.plane.admin_kubeconfig, f"--namespace={self.namespace}", *arguments, stdin=stdin)

    def path(self, plural: str, name: str = "") -> str:
        return f"{API}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def get(self, plural: str, name: str) -> dict[str, Any]:
        result: dict[str, Any] = self.client.get(self.path(plural, name))
        return result

    def exists(self, plural: str, name: str) -> bool:
        try:
            return bool(self.get(plural, name))
        except ApiError as error:
            if error.status != 404:
                raise
            return False

    def forget(self, *luns: str) -> None:
        """Gone without a trace: finalizers taken off by hand. LUNs of these names, or all documents: an operator looks
        at each pair that is there, again and again."""
        for plural in ("luns",) if luns else ("luns", "initiatoracls", "storagepairs"):
            for item in self._there(plural):
                if not luns or item["metadata"]["name"] in luns:
                    path = self.path(plural, item["metadata"]["name"])
                    self.client.request("PATCH", path, {"metadata": {"finalizers": None}})
                    self.client.delete(path)

    def _there(self, plural: str) -> list[dict[str, Any]]:
        try:
            items: list[dict[str, Any]] = self.client.get(self.path(plural))["items"]
        except ApiError as error:
            if error.status != 404:
                raise
            return []  # its kind is gone, and all of it
        return items

    def node(self, index: int = 0) -> dict[str, Any]:
        result: dict[str, Any] = self.client.get(f"{API}/storagenodes/{self.nodes[index]}")
        return result

    def spec(self, index: int = 0) -> NodeSpec:
        return view(NodeSpec, self.node(index)["spec"])

    def specs(self) -> tuple[NodeSpec, NodeSpec]:
        return self.spec(0), self.spec(1)

    def condition(self, type_: str, plural: str = "storagepairs", name: str = "vmstore") -> dict[str, Any]:
        conditions = self.get(plural, name).get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == type_), {})

    def says(self, type_: str, plural: str = "storagepairs", name: str = "vmstore") -> tuple[str, str]:
        found = self.condition(type_, plural, name)
        return found.get("status", ""), found.get("reason", "")

    def wait(self, type_: str, status: str, plural: str = "storagepairs", name: str = "vmstore") -> None:
        what = f"{plural} {name} to be {type_}={status}"
        wait_for(lambda: self.condition(type_, plural, name).get("status") == status, what, SOON)

    def wait_served(self) -> None:
        """Pair, LUN and ACL of the sample are ready."""
        self.wait("Ready", "True")
        self.wait("Ready", "True", "luns", "datastore1")
        self.wait("Ready", "True", "initiatoracls", "esx")

    def events(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.client.get(f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events")[
            "items"
        ]
        return items

    def versions(self) -> dict[str, str]:
        """The resourceVersions of all objects that the operator might write."""
        paths = [self.path(plural) for plural in ("storagepairs", "luns", "initiatoracls", "failovers", "switchovers")]
        items = [item for path in paths for item in self.client.get(path)["items"]]
        items += [self.client.get(f"{API}/storagenodes/{name}") for name in self.nodes] + self.events()
        return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in items}

    def written(self, since: int) -> list[Write]:
        """What the operator has written, by the API server's own log; refused requests and its lease aside."""
        writes = [write for write in self.plane.audit.writes(since) if write.user == USER]
        return [write for write in writes if write.status < 400 and write.resource != "leases"]


def rest(pair: Pair) -> None:
    """Until the operator has written what it had to."""

    def nothing() -> bool:
        mark = pair.plane.audit.mark()
        time.sleep(1)  # what is looked for is a second without any write
        return not pair.written(mark)

    wait_for(nothing, "the operator to come to rest", SOON)
