"""The contract between operator and node agent: StorageNode."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from storagepair_crds.views.base import Condition, Metadata, Struct
from storagepair_crds.views.user import Filesystem, Pause, Phase

# ------------------------------------------------------ StorageNode.spec (written by the operator)


class NodePairReference(Struct, frozen=True, kw_only=True):
    namespace: str
    name: str
    uid: str


class NodeBond(Struct, frozen=True, kw_only=True):
    name: str
    members: tuple[str, ...]
    addresses: tuple[str, ...]  # this node's, interface form
    miimon_milliseconds: int = 100


class ReplicationHost(Struct, frozen=True, kw_only=True):
    name: str
    disk: str
    address: str  # bare IP


class NodeReplication(Struct, frozen=True, kw_only=True):
    """DRBD: resource `storagepair`, minor 0, internal metadata, protocol C."""

    hosts: tuple[ReplicationHost, ReplicationHost]  # in the pair's order, the same on both nodes
    seed: str  # whose (provably empty) disk the very first sync starts from
    port: int = 7788
    resync_rate_bytes: int = 104857600


class HeartbeatLink(Struct, frozen=True, kw_only=True):
    device: str  # bond0
    peer_address: str  # ucast to this address


class AuthkeysReference(Struct, frozen=True, kw_only=True):
    """A Secret with the one key `authkey` (64 hex digits)."""

    namespace: str
    name: str


class NodeHeartbeat(Struct, frozen=True, kw_only=True):
    preferred: str  # node in haresources, the same on both hosts
    links: tuple[HeartbeatLink, ...]
    authkeys_secret_ref: AuthkeysReference
    ping_addresses: tuple[str, ...] = ()
    keepalive_seconds: int = 1
    deadtime_seconds: int = 10
    auto_failback: str = "Disabled"


class NodeVirtualIP(Struct, frozen=True, kw_only=True):
    device: str
    address: str  # interface form


class InitiatorEntry(Struct, frozen=True, kw_only=True):
    """What one InitiatorACL admits. An entry that is missing here stays on the host; only `Absent` takes it away."""

    acl: str  # InitiatorACL's name
    addresses: tuple[str, ...] = ()
    state: str = "Present"  # Present | Absent


class NodeTarget(Struct, frozen=True, kw_only=True):
    name: str
    iqn: str
    initiators: tuple[InitiatorEntry, ...] = ()


class NodeLUN(Struct, frozen=True, kw_only=True):
    """An entry that is missing here stays on the host; only `Absent` ends an export (with Delete the file too)."""

    name: str  # LUN's name: with the pair the key of its identity
    target: str
    size_bytes: int
    number: int | None = None
    write_policy: str = "WriteThrough"
    deletion_policy: str = "Retain"
    state: str = "Present"  # Present | Absent


class NodeSwitchover(Struct, frozen=True, kw_only=True):
    """The service shall be handed over, once. Only on the machine that serves, only while its Switchover is Running."""

    name: str  # "namespace/name"
    uid: str
    to: str
    not_after: str = ""  # RFC 3339; the move is not begun later


class NodeSpec(Struct, frozen=True, kw_only=True):
    pair_ref: NodePairReference
    bonds: tuple[NodeBond, ...]
    replication: NodeReplication
    filesystem: Filesystem
    heartbeat: NodeHeartbeat
    virtual_ip: NodeVirtualIP = msgspec.field(name="virtualIP")
    targets: tuple[NodeTarget, ...] = ()
    luns: tuple[NodeLUN, ...] = ()
    service: str = "Prepare"  # Prepare: stop before Heartbeat | Run: start it | Stopped | Removed. Never goes back
    delivered_incidents: tuple[str, ...] = ()  # recorded as Failover objects: the agent may drop them from its status
    switchover: NodeSwitchover | None = None


# ------------------------------------------------------ StorageNode.status (written by that node's agent)


class HostStatus(Struct, frozen=True, kw_only=True):
    kernel: str = ""
    os: str = ""
    drbd: str = ""
    drbd_utils: str = ""
    heartbeat: str = ""
    tgt: str = ""


class BondMemberStatus(Struct, frozen=True, kw_only=True):
    name: str
    link: str = "Unknown"  # Up | Down | Unknown


class BondStatus(Struct, frozen=True, kw_only=True):
    name: str
    active_member: str = ""
    members: tuple[BondMemberStatus, ...] = ()


class ReplicationMetadata(StrEnum):
    """What is on this node's disk."""

    UNKNOWN = "Unknown"
    EMPTY = "Empty"  # provably empty, no metadata yet
    FOREIGN = "Foreign"  # somebody's data: never touched
    JUST_CREATED = "JustCreated"  # our metadata, no data generation yet
    INITIALIZED = "Initialized"  # our metadata with a data generation


class ReplicationStatus(Struct, frozen=True, kw_only=True):
    metadata: str = "Unknown"
    role: str = "Unknown"  # DRBD's words from here on: Primary | Secondary | Unknown
    disk_state: str = "Unknown"
    peer_role: str = "Unknown"
    peer_disk_state: str = "Unknown"
    connection: str = "Unknown"  # Connected, StandAlone, WFConnection, SyncSource, SyncTarget, ...
    synced_percent: int = 0  # of a running resync, whole percent; else 100


class FilesystemStatus(Struct, frozen=True, kw_only=True):
    state: str = "Unknown"  # Unknown | Absent | Formatted (seen by us on the device, this or an earlier time)
    mounted: bool = False
    size_bytes: int = 0
    used_percent: int = 0  # rounded to 5


class HeartbeatLinkStatus(Struct, frozen=True, kw_only=True):
    name: str
    state: str  # up | dead | ...


class HeartbeatStatus(Struct, frozen=True, kw_only=True):
    running: bool = False
    peer: str = "Unknown"  # cl_status nodestatus: active | up | init | dead | ping
    authkeys: str = "Unknown"  # Unknown | Absent | Present
    links: tuple[HeartbeatLinkStatus, ...] = ()


class ServiceStatus(Struct, frozen=True, kw_only=True):
    """`active`: role Primary, mounted, VIP up, targets complete and port open: all of it."""

    active: bool = False
    virtual_ip: bool = msgspec.field(name="virtualIP", default=False)
    port_open: bool = False


class SessionStatus(Struct, frozen=True, kw_only=True):
    initiator_name: str
    address: str


class TargetStatus(Struct, frozen=True, kw_only=True):
    name: str
    iqn: str
    sessions: tuple[SessionStatus, ...] = ()


class NodeLUNStatus(Struct, frozen=True, kw_only=True):
    """`state`: Serving (in tgtd here) | Ready (on the file system) | Failed | Absent (taken away as asked)."""

    name: str
    state: str
    number: int | None = None
    serial: str = ""
    size_bytes: int | None = None
    message: str = ""


class Incident(Struct, frozen=True, kw_only=True):
    """One start of the service on this host that was a move, kept until delivered. Times: RFC 3339, microseconds."""

    id: str
    cause: str
    to: str
    from_: str = msgspec.field(name="from", default="")
    start_time: str
    end_time: str
    milliseconds: int
    request: str = ""  # as in FailoverSpec from here on
    message: str = ""
    pause: Pause | None = None
    phases: tuple[Phase, ...] = ()


class SwitchoverOutcome(Struct, frozen=True, kw_only=True):
    """The last Switchover that the machine was asked to carry out."""

    name: str
    uid: str
    phase: str  # Running | Succeeded | Refused | Failed
    reason: str = ""
    message: str = ""


class NodeStatus(Struct, frozen=True, kw_only=True):
    observed_generation: int = -1
    agent_version: str = ""
    conditions: tuple[Condition, ...] = ()
    host: HostStatus = HostStatus()
    bonds: tuple[BondStatus, ...] = ()
    replication: ReplicationStatus = ReplicationStatus()
    filesystem: FilesystemStatus = FilesystemStatus()
    heartbeat: HeartbeatStatus = HeartbeatStatus()
    service: ServiceStatus = ServiceStatus()
    targets: tuple[TargetStatus, ...] = ()
    luns: tuple[NodeLUNStatus, ...] = ()
    incidents: tuple[Incident, ...] = ()
    switchover: SwitchoverOutcome | None = None
    unmanaged: tuple[str, ...] = ()  # what is exported on the host and named in no document


class StorageNode(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    spec: NodeSpec
    status: NodeStatus = NodeStatus()
