"""Agents that live at the API only: they write what the real ones write, about machines that do not exist."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import threading
import time
from typing import Any

import msgspec
from api.operator_world import API, SYSTEM, Pair
from lab.apiclient import ApiClient, ApiError, ApiUnreachable
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

RENEW_SECONDS = 1.0


def lease_path(node: str) -> str:
    """Where a node's Lease is."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/storagenode-{node}"


def renewal(node: str) -> dict[str, str]:
    """What an agent writes into its Lease's spec."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"holderIdentity": node, "renewTime": now}


class Agents:
    """Both machines of a pair, at the API only: they carry their documents out at once and report it.

    `luns` and `initiators` are what the hosts export. As the contract says, an entry that is missing in a document
    stays there; only Absent takes it away.
    """

    def __init__(self, pair: Pair, *, every_seconds: float = 0.25) -> None:
        self.pair = pair
        self._every_seconds = every_seconds
        self.active = pair.nodes[0]
        self.dead: set[str] = set()
        self.silent: set[str] = set()  # no report and no renewal of its Lease
        self.renews = True  # agents of an earlier version have no Lease
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
        self.ended: list[tuple[str, str]] = []  # which machine was told what of the pair's end, in its order
        self._clients: dict[str, ApiClient] = {}
        self._renewed: dict[str, float] = {}
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
        while not self._stop.wait(self._every_seconds):
            for name in self.pair.nodes:
                if name not in self.dead | self.silent:
                    with contextlib.suppress(ApiUnreachable):
                        self._try(name)

    def _try(self, name: str) -> None:
        try:
            self._report(name)
            self._renew(name)
        except ApiError as error:
            if error.status == 401:  # the account is gone, or another one of its name
                self._clients.pop(name, None)

    def _renew(self, name: str) -> None:
        """As the real ones do (signs.py), but every second: the tests' operators wait for less than 90 s."""
        if self.renews and time.monotonic() - self._renewed.get(name, -RENEW_SECONDS) >= RENEW_SECONDS:
            self._renewed[name] = time.monotonic()
            self._client(name).request("PATCH", lease_path(name), {"spec": renewal(name)})

    def _client(self, name: str) -> ApiClient:
        """As the node itself; the operator makes its account."""
        if name not in self._clients:
            account = f"storagenode-{name}"
            path = self.pair.plane.folder / f"{account}.kubeconfig"
            self.pair.plane.service_account_kubeconfig(SYSTEM, account, path)
            self._clients[name] = ApiClient(path)
        return self._clients[name]

    def _report(self, name: str) -> None:
        client = self._client(name)
        path = f"{API}/storagenodes/{name}"
        node = client.get(path)
        spec = view(NodeSpec, node["spec"])
        if (spec.pair_ref.namespace, spec.pair_ref.name) != (self.pair.namespace, "vmstore"):
            return
        status = self._status(name, spec, node["metadata"]["generation"])
        if view(NodeStatus, node.get("status", {})) != status:
            client.request("PATCH", f"{path}/status", [{"op": "add", "path": "/status", "value": document(status)}])

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
        ends = spec.service in ("Stopped", "Removed")
        kinds = ("Ready", "Teardown") if ends else ("Ready", "Targets")
        conditions = self.conditions.get(name, tuple(self.condition(kind) for kind in kinds))
        if ends and (name, spec.service) not in self.ended:
            self.ended.append((name, spec.service))
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
                    authkeys="Absent" if spec.service == "Removed" else self._keys(spec),
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
            client = self._client(reference.name.removeprefix("storagenode-"))
            client.get(f"/api/v1/namespaces/{reference.namespace}/secrets/{reference.name}")
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
