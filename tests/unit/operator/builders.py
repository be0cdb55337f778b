"""Documents for the operator's unit tests, with as little to write as possible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
from storagepair_crds.views import (
    LUN,
    Bond,
    BondMemberStatus,
    BondStatus,
    Condition,
    Failover,
    FailoverSpec,
    FilesystemStatus,
    HeartbeatLinkStatus,
    HeartbeatStatus,
    Incident,
    InitiatorACL,
    InitiatorACLSpec,
    LUNSpec,
    Metadata,
    NodeLUN,
    NodeLUNStatus,
    NodeSpec,
    NodeStatus,
    PairAddress,
    PairHeartbeat,
    PairNode,
    PairReference,
    PairReplication,
    PairSpec,
    PairTarget,
    ReplicationStatus,
    ServiceStatus,
    StorageNode,
    StoragePair,
    Switchover,
    SwitchoverOutcome,
    SwitchoverSpec,
    SwitchoverStatus,
    VirtualIP,
)
from storagepair_operator import moments
from storagepair_operator.kinds import PairKey
from storagepair_operator.plan import Plan, plan
from storagepair_operator.snapshot import FINALIZER, Intent, Observed, Snapshot

SECRETS = "storagepair-system"
KEY = PairKey("default", "vmstore")
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EARLIER = "2026-03-01T11:00:00Z"
MIB = 2**20


def metadata(
    name: str, namespace: str = "default", *, uid: str = "", created: str = EARLIER, **more: object
) -> Metadata:
    return Metadata(
        name=name,
        namespace=namespace,
        uid=uid or f"uid-of-{namespace}-{name}",
        generation=1,
        resource_version="10",
        creation_timestamp=created,
        **more,
    )


def pair_spec(
    nodes: tuple[str, str] = ("node1", "node2"),
    *,
    vip: str = "10.10.25.136/24",
    iqns: Mapping[str, str] | None = None,
) -> PairSpec:
    iqns = {"default": "iqn.2011-03.org.weithenn:iscsi.storage"} if iqns is None else iqns
    return PairSpec(
        nodes=tuple(
            PairNode(
                name=name,
                disk="/dev/vdb",
                addresses=(
                    PairAddress(bond="bond0", address=f"10.10.25.{131 + index}/24"),
                    PairAddress(bond="bond1", address=f"192.168.1.{131 + index}/24"),
                ),
            )
            for index, name in enumerate(nodes)
        ),
        bonds=(Bond(name="bond0", members=("eth0", "eth1")), Bond(name="bond1", members=("eth2", "eth3"))),
        replication=PairReplication(bond="bond1"),
        heartbeat=PairHeartbeat(links=("bond1", "bond0"), ping_addresses=("10.10.25.254",), deadtime_seconds=5),
        virtual_ip=VirtualIP(bond="bond0", address=vip),
        targets=tuple(PairTarget(name=name, iqn=iqn) for name, iqn in iqns.items()),
    )


def pair(key: PairKey = KEY, spec: PairSpec | None = None, **more: object) -> StoragePair:
    return StoragePair(metadata=metadata(key.name, key.namespace, **more), spec=spec or pair_spec())


def lun(
    name: str = "datastore1",
    *,
    number: int | None = None,
    size: str = "64Mi",
    target: str = "default",
    deleted: bool = False,
    held: bool = True,
    **more: object,
) -> LUN:
    return LUN(
        metadata=metadata(name, **_life(deleted, held), **more),
        spec=LUNSpec(pair_ref=PairReference(name=KEY.name), size=size, target=target, number=number),
    )


def acl(
    name: str = "esx",
    *,
    addresses: tuple[str, ...] = ("10.10.25.0/24",),
    target: str = "default",
    deleted: bool = False,
    held: bool = True,
    **more: object,
) -> InitiatorACL:
    return InitiatorACL(
        metadata=metadata(name, **_life(deleted, held), **more),
        spec=InitiatorACLSpec(pair_ref=PairReference(name=KEY.name), target=target, addresses=addresses),
    )


def _life(deleted: bool, held: bool) -> dict[str, object]:
    return {"deletion_timestamp": EARLIER if deleted else "", "finalizers": (FINALIZER,) if held else ()}


def snapshot(
    *things: LUN | InitiatorACL,
    of: StoragePair | str | None = "default",
    nodes: Mapping[str, Observed] | None = None,
    others: Iterable[StoragePair] = (),
    failovers: Iterable[Failover] = (),
    switchovers: Iterable[Switchover] = (),
) -> Snapshot:
    """A snapshot of the pair `of` (one made here unless given; None for no pair)."""
    mine = pair() if isinstance(of, str) else of
    pairs = [*others, *([mine] if mine else [])]
    return Snapshot(
        key=KEY,
        pair=mine,
        luns=tuple(thing for thing in things if isinstance(thing, LUN)),
        acls=tuple(thing for thing in things if isinstance(thing, InitiatorACL)),
        failovers=tuple(failovers),
        switchovers=tuple(switchovers),
        nodes=nodes or {},
        pairs={PairKey(p.metadata.namespace, p.metadata.name): p for p in pairs},
    )


def planned(view: Snapshot, intents: Mapping[str, Intent] | None = None) -> Plan:
    return plan(view, intents or {}, SECRETS, NOW)


def node(
    name: str, spec: NodeSpec, status: NodeStatus | None = None, *, reported: str = EARLIER, generation: int = 1
) -> Observed:
    about = msgspec.structs.replace(metadata(name, ""), generation=generation)
    return Observed(StorageNode(metadata=about, spec=spec, status=status or NodeStatus()), reported if status else "")


def status(role: str = "Standby", **more: object) -> NodeStatus:
    """A healthy machine's status: Active or Standby."""
    active = role == "Active"
    healthy = NodeStatus(
        observed_generation=1,
        conditions=(ready(),),
        replication=ReplicationStatus(
            metadata="Initialized",
            role="Primary" if active else "Secondary",
            peer_role="Secondary" if active else "Primary",
            disk_state="UpToDate",
            peer_disk_state="UpToDate",
            connection="Connected",
            synced_percent=100,
        ),
        filesystem=FilesystemStatus(state="Formatted", mounted=active),
        bonds=(bond("bond0", "eth0", "eth1"), bond("bond1", "eth2", "eth3")),
        heartbeat=HeartbeatStatus(
            running=True,
            peer="active",
            authkeys="Present",
            links=(HeartbeatLinkStatus(name="bond1", state="up"), HeartbeatLinkStatus(name="bond0", state="up")),
        ),
        service=ServiceStatus(active=active, virtual_ip=active, port_open=active),
    )
    return msgspec.structs.replace(healthy, **more)


def bond(name: str, *members: str, down: str = "") -> BondStatus:
    """A bond with all its links, but for one."""
    links = (BondMemberStatus(name=member, link="Down" if member == down else "Up") for member in members)
    return BondStatus(name=name, active_member=members[0], members=tuple(links))


def ready(
    state: str = "True", type_: str = "Ready", message: str = "", since: str = EARLIER, generation: int = 1
) -> Condition:
    return Condition(
        type=type_,
        status=state,
        reason="AsDeclared" if state == "True" else "Broken",
        message=message,
        observed_generation=generation,
        last_transition_time=since,
    )


def lone(state: NodeStatus) -> NodeStatus:
    """The same machine after it has lost the other one."""
    mirror = msgspec.structs.replace(
        state.replication, connection="WFConnection", peer_role="Unknown", peer_disk_state="DUnknown"
    )
    heart = msgspec.structs.replace(state.heartbeat, peer="dead")
    return msgspec.structs.replace(state, replication=mirror, heartbeat=heart)


def written(
    view: Snapshot, statuses: tuple[NodeStatus | None, NodeStatus | None] = (None, None), **more: str
) -> dict[str, Observed]:
    """The StorageNodes as the operator writes them for `view`, with these statuses."""
    specs = planned(view).nodes
    return {name: node(name, spec, state, **more) for (name, spec), state in zip(specs.items(), statuses, strict=True)}


def running(
    *things: LUN | InitiatorACL, active: NodeStatus | None = None, standby: NodeStatus | None = None
) -> Snapshot:
    """A pair that serves: node1 active, both machines ready."""
    statuses = (active or status("Active"), standby or status())
    first = written(snapshot(*things), statuses)
    return snapshot(*things, nodes=written(snapshot(*things, nodes=first), statuses))


def silent(view: Snapshot, **since: str | None) -> Snapshot:
    """The same, with agents silent since some moment; "" for one that renews, None where it isn't known."""
    nodes = {name: replace(seen, silent_since=since.get(name)) for name, seen in view.nodes.items()}
    return replace(view, nodes=nodes)


def served(name: str = "datastore1", number: int = 1, size: int = 64 * MIB, state: str = "Serving") -> NodeLUNStatus:
    return NodeLUNStatus(name=name, state=state, number=number, serial="beaf1", size_bytes=size)


def entry(name: str = "datastore1", **more: object) -> NodeLUN:
    return msgspec.structs.replace(NodeLUN(name=name, target="default", size_bytes=64 * MIB), **more)


def with_spec(nodes: Mapping[str, Observed], **changes: object) -> dict[str, Observed]:
    """The same StorageNodes with other specs."""
    return {
        name: Observed(
            msgspec.structs.replace(seen.node, spec=msgspec.structs.replace(seen.node.spec, **changes)), seen.reported
        )
        for name, seen in nodes.items()
    }


def incident(id_: str = "node2-1", cause: str = "NodeLost") -> Incident:
    return Incident(
        id=id_,
        cause=cause,
        from_="node1",
        to="node2",
        start_time="2026-03-01T11:59:00.000000Z",
        end_time="2026-03-01T11:59:11.200000Z",
        milliseconds=11200,
    )


def failover(id_: str = "node2-1", *, request: str = "", cause: str = "", days: float = 0, **more: str) -> Failover:
    """A record of a move some days before the others, if that is asked for."""
    told = incident(id_)
    earlier = timedelta(days=days)
    return Failover(
        metadata=metadata(f"vmstore-{id_}", **more),
        spec=FailoverSpec(
            pair_ref=PairReference(name=KEY.name),
            cause=cause or told.cause,
            to=told.to,
            from_=told.from_,
            start_time=moments.micro(moments.parse(told.start_time) - earlier),
            end_time=moments.micro(moments.parse(told.end_time) - earlier),
            milliseconds=told.milliseconds,
            incident=told.id,
            request=request,
        ),
    )


def switchover(
    name: str = "move", to: str = "node2", phase: str = "Pending", *, started: str = "", of: str = KEY.name, **spec: str
) -> Switchover:
    """A request made just now; Running since then unless `started` says something else."""
    began = started or moments.micro(NOW)
    told = SwitchoverStatus() if phase == "Pending" else SwitchoverStatus(phase=phase, reason=phase, message=phase)
    return Switchover(
        metadata=metadata(name, created=spec.pop("created", moments.seconds(NOW))),
        spec=SwitchoverSpec(pair_ref=PairReference(name=of), to=to, **spec),
        status=msgspec.structs.replace(told, start_time=began) if phase == "Running" else told,
    )


def outcome(of: Switchover, phase: str = "Succeeded", reason: str = "Moved") -> SwitchoverOutcome:
    """What a host says came of it."""
    name = f"{of.metadata.namespace}/{of.metadata.name}"
    return SwitchoverOutcome(name=name, uid=of.metadata.uid, phase=phase, reason=reason, message="node2 serves")
