"""What the operator's tests on a real API server stand on: its process, and agents that live at the API only."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml
from lab.apiclient import ApiClient, ApiError, ApiUnreachable
from lab.audit import Write
from lab.controlplane import ControlPlane
from lab.kubectl import apply_crds, kubectl
from lab.waiting import wait_for
from storagepair_crds.views import (
    BondMemberStatus,
    BondStatus,
    Condition,
    FilesystemStatus,
    HeartbeatLinkStatus,
    HeartbeatStatus,
    Incident,
    NodeLUNStatus,
    NodeSpec,
    NodeStatus,
    ReplicationStatus,
    ServiceStatus,
    SwitchoverOutcome,
    document,
    view,
)

ROOT = Path(__file__).parents[2]
SYSTEM, ACCOUNT = "storagepair-system", "storagepair-operator"
USER = f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
API = "/apis/storagepair.dev/v1alpha1"
SAMPLE = ROOT / "manifests" / "samples" / "storagepair.yaml"
SOON = 90.0  # generous: what is measured here is whether, not how quickly
_numbers = itertools.count()


def prepare(plane: ControlPlane) -> None:
    """The CRDs, and the operator's account with its rights, as the manifests have them."""
    apply_crds(plane.admin_kubeconfig)
    files = [f"--filename={ROOT / 'manifests' / name}" for name in ("namespace.yaml", "operator-rbac.yaml")]
    kubectl(plane.admin_kubeconfig, "apply", *files)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Operator:
    """The real process, with its own service account's token."""

    def __init__(
        self, plane: ControlPlane, *, server: str | None = None, audit_seconds: float = 2, log_level: str = "debug"
    ) -> None:
        self.plane = plane
        self.name = f"operator-{next(_numbers)}"
        self.log = plane.folder / f"{self.name}.log"
        self._port = free_port()
        path = plane.folder / f"{self.name}.kubeconfig"
        plane.service_account_kubeconfig(SYSTEM, ACCOUNT, path, server=server)
        self._argv = [
            *(
                sys.executable,
                "-m",
                "storagepair_operator.main",
                "run",
                f"--kubeconfig={path}",
                f"--log-level={log_level}",
            ),
            *(f"--audit-seconds={audit_seconds}", f"--health-port={self._port}"),
        ]

    def start(self, *, ready: bool = True) -> Operator:
        paths = os.pathsep.join(str(ROOT / part) for part in ("crds", "operator"))
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
        lines = (self._get("/metrics") or "").splitlines()
        return sum(int(line.split()[-1]) for line in lines if not line.startswith("#"))

    def wait_ready(self, seconds: float = SOON) -> None:
        wait_for(lambda: self.ready, f"the operator to be ready; see {self.log}", seconds)

    def wait_log(self, words: str, seconds: float = SOON) -> None:
        wait_for(lambda: words in self.log.read_text(), f"{words!r} in {self.log}", seconds)

    def stop(self) -> int | None:
        self.plane.keeper.kill(self.name, signal.SIGTERM, timeout=30)
        return self.plane.keeper.exit_status(self.name)

    def crash(self) -> None:
        self.plane.keeper.kill(self.name)

    def _get(self, path: str) -> str | None:
        url = f"http://127.0.0.1:{self._port}{path}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
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
        time.sleep(1)
        return not pair.written(mark)

    wait_for(nothing, "the operator to come to rest", SOON)


class Agents:
    """Both machines of a pair, at the API only: they carry their documents out at once and report it.

    `luns` and `initiators` are what the hosts export. As the contract says, an entry that is missing in a document
    stays there; only Absent takes it away.
    """

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.active = pair.nodes[0]
        self.dead: set[str] = set()
        self.silent: set[str] = set()
        self.incidents: dict[str, list[Incident]] = {name: [] for name in pair.nodes}
        self.conditions: dict[str, tuple[Condition, ...]] = {}
        self.drops = True  # whether incidents that are recorded leave the statuses
        self.moves = True  # whether the machines carry Switchovers out
        self.carried_out: list[str] = []  # the UIDs of Switchovers, in their order
        self.outcomes: dict[str, SwitchoverOutcome] = {}
        self.down: set[tuple[str, str]] = set()  # machine and NIC
        self.mirror: dict[str, Any] = {}  # what both say of the mirror, if it is not well
        self.heard: dict[str, Any] = {}  # what both say of Heartbeat, if it is not well
        self.luns: dict[str, int] = {}
        self.initiators: set[str] = set()
        self._since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Agents:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for name in self.pair.nodes:
                if name not in self.dead | self.silent:
                    with contextlib.suppress(ApiUnreachable, ApiError):
                        self._report(name)

    def _report(self, name: str) -> None:
        client = self.pair.client
        path = f"{API}/storagenodes/{name}"
        node = client.get(path)
        spec = view(NodeSpec, node["spec"])
        if (spec.pair_ref.namespace, spec.pair_ref.name) != (self.pair.namespace, "vmstore"):
            return
        status = self._status(name, spec, node["metadata"]["generation"])
        if view(NodeStatus, node.get("status", {})) != status:
            client.request("PUT", f"{path}/status", {**node, "status": document(status)})

    def _status(self, name: str, spec: NodeSpec, generation: int) -> NodeStatus:
        peer = next(other for other in self.pair.nodes if other != name)
        running, lonely = spec.service == "Run", peer in self.dead
        self._move(name, spec)
        active = running and name == self.active
        if active:
            self._export(spec)
        mirror = ReplicationStatus(
            metadata="Initialized",
            role="Primary" if active else "Secondary",
            disk_state="UpToDate",
            peer_role="Unknown" if lonely else "Secondary" if active else "Primary",
            peer_disk_state="DUnknown" if lonely else "UpToDate",
            connection="WFConnection" if lonely else "Connected",
            synced_percent=100,
        )
        delivered = set(spec.delivered_incidents) if self.drops else set()
        self.incidents[name] = [each for each in self.incidents[name] if each.id not in delivered]
        conditions = self.conditions.get(name, (self.condition("Ready"), self.condition("Targets")))
        return NodeStatus(
            observed_generation=generation,
            agent_version="test",
            conditions=tuple(msgspec.structs.replace(each, observed_generation=generation) for each in conditions),
            replication=msgspec.structs.replace(mirror, **self.mirror),
            filesystem=FilesystemStatus(state="Formatted", mounted=active),
            bonds=tuple(self._bond(name, bond.name, bond.members) for bond in spec.bonds),
            heartbeat=msgspec.structs.replace(
                HeartbeatStatus(
                    running=running,
                    peer="dead" if lonely else "active",
                    authkeys=self._keys(spec),
                    links=tuple(HeartbeatLinkStatus(name=link.device, state="up") for link in spec.heartbeat.links),
                ),
                **self.heard,
            ),
            service=ServiceStatus(active=active, virtual_ip=active, port_open=active),
            luns=self._reported(spec) if active else (),
            incidents=tuple(self.incidents[name]),
            switchover=self.outcomes.get(name),
        )

    def _move(self, name: str, spec: NodeSpec) -> None:
        """A Switchover is carried out once, by the machine that serves."""
        wanted, last = spec.switchover, self.outcomes.get(name)
        if wanted is None or not self.moves or (last is not None and last.uid == wanted.uid):
            return
        self.carried_out.append(wanted.uid)
        told = SwitchoverOutcome(name=wanted.name, uid=wanted.uid, phase="Refused", reason="NotActive", message="no")
        if name == self.active:
            self.active = wanted.to
            told = msgspec.structs.replace(told, phase="Succeeded", reason="Moved", message=f"{wanted.to} serves")
        self.outcomes[name] = told

    def _bond(self, machine: str, name: str, members: tuple[str, ...]) -> BondStatus:
        links = (BondMemberStatus(name=nic, link="Down" if (machine, nic) in self.down else "Up") for nic in members)
        return BondStatus(name=name, active_member=members[0], members=tuple(links))

    def _export(self, spec: NodeSpec) -> None:
        for lun in spec.luns:
            if lun.state == "Absent":
                self.luns.pop(lun.name, None)
            elif lun.name not in self.luns:
                free = (number for number in itertools.count(1) if number not in self.luns.values())
                self.luns[lun.name] = lun.number or next(free)
        for target in spec.targets:
            for entry in target.initiators:
                (self.initiators.discard if entry.state == "Absent" else self.initiators.add)(entry.acl)

    def _reported(self, spec: NodeSpec) -> tuple[NodeLUNStatus, ...]:
        sizes = {lun.name: lun.size_bytes for lun in spec.luns}
        served = [
            NodeLUNStatus(name=name, state="Serving", number=number, serial=f"beaf{number}", size_bytes=sizes.get(name))
            for name, number in self.luns.items()
        ]
        gone = [NodeLUNStatus(name=lun.name, state="Absent") for lun in spec.luns if lun.state == "Absent"]
        return tuple(sorted([*served, *gone], key=lambda lun: lun.name))

    def _keys(self, spec: NodeSpec) -> str:
        reference = spec.heartbeat.authkeys_secret_ref
        try:
            self.pair.client.get(f"/api/v1/namespaces/{reference.namespace}/secrets/{reference.name}")
        except ApiError:
            return "Absent"
        return "Present"

    def condition(self, type_: str, status: str = "True", reason: str = "AsDesired", message: str = "") -> Condition:
        return Condition(type=type_, status=status, reason=reason, message=message, last_transition_time=self._since)

    def lose(self, name: str, incident: Incident) -> None:
        """The machine's power is cut, and the other one takes over."""
        self.dead.add(name)
        survivor = next(other for other in self.pair.nodes if other != name)
        self.active = survivor
        self.incidents[survivor].append(incident)

    def come_back(self, name: str) -> None:
        """The machine is up again, as standby."""
        self.dead.discard(name)


class Relay:
    """A TCP relay in front of the API server that can be cut, so that one client is cut off and nobody else."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self.port = free_port()
        self.mend()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Refuse new connections and break those that are open."""
        assert self._listener is not None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        source.close()
        self._open.discard(source)
