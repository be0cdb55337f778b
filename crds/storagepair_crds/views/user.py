"""What a user writes, and the operator's answers and records: StoragePair, LUN, InitiatorACL, Switchover, Failover."""

from __future__ import annotations

import msgspec

from storagepair_crds.views.base import Condition, Metadata, Struct

# ---------------------------------------------------------------------------- StoragePair (written by the user)


class PairAddress(Struct, frozen=True, kw_only=True):
    bond: str
    address: str  # interface form: 10.10.25.131/24


class PairNode(Struct, frozen=True, kw_only=True):
    name: str  # the Kubernetes node's name, equal to the host's `uname -n`
    disk: str  # an absolute device path: /dev/vdb, /dev/disk/by-id/...
    addresses: tuple[PairAddress, ...]


class Bond(Struct, frozen=True, kw_only=True):
    name: str
    members: tuple[str, ...]
    miimon_milliseconds: int = 100


class PairReplication(Struct, frozen=True, kw_only=True):
    bond: str
    port: int = 7788
    resync_rate: str = "100Mi"  # bytes per second, a Kubernetes quantity


class Filesystem(Struct, frozen=True, kw_only=True):
    type: str = "ext4"  # ext3 | ext4 | xfs
    mount_path: str = "/storage"


class PairHeartbeat(Struct, frozen=True, kw_only=True):
    links: tuple[str, ...]  # bond names, two different ones
    ping_addresses: tuple[str, ...] = ()
    keepalive_seconds: int = 1
    deadtime_seconds: int = 10
    auto_failback: str = "Disabled"  # Disabled | Enabled


class VirtualIP(Struct, frozen=True, kw_only=True):
    bond: str
    address: str  # interface form: 10.10.25.136/24


class PairTarget(Struct, frozen=True, kw_only=True):
    name: str
    iqn: str


class PairSpec(Struct, frozen=True, kw_only=True):
    nodes: tuple[PairNode, PairNode]
    bonds: tuple[Bond, ...]
    replication: PairReplication
    heartbeat: PairHeartbeat
    virtual_ip: VirtualIP = msgspec.field(name="virtualIP")
    targets: tuple[PairTarget, ...]
    filesystem: Filesystem = Filesystem()
    failover_history_limit: int = 50
    deletion_policy: str = "Retain"  # Retain | Teardown


class PairNodeStatus(Struct, frozen=True, kw_only=True):
    """One node at a glance, inside the pair's status."""

    name: str
    ready: str = "Unknown"  # True | False | Unknown
    role: str = "Unknown"  # Active | Standby | Unknown
    disk_state: str = "Unknown"  # DRBD's: UpToDate, Inconsistent, ...
    agent_silent_since: str = ""  # RFC 3339; "" while its agent gives signs of life


class PairStatus(Struct, frozen=True, kw_only=True):
    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    active: str = ""  # node name; "" when nobody serves
    standby: str = ""
    replication: str = ""  # one phrase: UpToDate | Resyncing 42% | Disconnected | ...
    luns: int = 0
    failovers: int = 0  # how many Failover records of this pair exist
    nodes: tuple[PairNodeStatus, ...] = ()


class StoragePair(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    spec: PairSpec
    status: PairStatus = PairStatus()


# ---------------------------------------------------------------------------- LUN, InitiatorACL (written by the user)


class PairReference(Struct, frozen=True, kw_only=True):
    """A pair in the same namespace."""

    name: str


class LUNSpec(Struct, frozen=True, kw_only=True):
    pair_ref: PairReference
    size: str  # a Kubernetes quantity, a multiple of 4Ki
    target: str = "default"
    number: int | None = None  # 1..255; minted (lowest free) on the host when absent
    write_policy: str = "WriteThrough"  # WriteThrough | WriteBack
    deletion_policy: str = "Retain"  # Retain | Delete


class LUNStatus(Struct, frozen=True, kw_only=True):
    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    number: int | None = None
    serial: str = ""
    size_bytes: int | None = None


class LUN(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    spec: LUNSpec
    status: LUNStatus = LUNStatus()


class InitiatorACLSpec(Struct, frozen=True, kw_only=True):
    pair_ref: PairReference
    addresses: tuple[str, ...]  # single addresses or networks (host bits zero): 10.10.25.0/24, 10.10.25.140
    target: str = "default"


class InitiatorACLStatus(Struct, frozen=True, kw_only=True):
    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    sessions: int = 0  # logged-in sessions now whose address this ACL admits


class InitiatorACL(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    spec: InitiatorACLSpec
    status: InitiatorACLStatus = InitiatorACLStatus()


# ---------------------------------------------------------------------------- Switchover (written by the user)


class SwitchoverSpec(Struct, frozen=True, kw_only=True):
    pair_ref: PairReference
    to: str
    from_: str = msgspec.field(name="from", default="")
    not_after: str = ""  # RFC 3339
    reason: str = ""


class SwitchoverStatus(Struct, frozen=True, kw_only=True):
    observed_generation: int = -1
    phase: str = "Pending"  # Pending | Running | Succeeded | Refused | Failed; the last three are final
    reason: str = ""
    message: str = ""
    start_time: str = ""  # RFC 3339, when a host was asked; "" when none was
    completion_time: str = ""
    failover: str = ""  # the Failover that records the move
    conditions: tuple[Condition, ...] = ()


class Switchover(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    spec: SwitchoverSpec
    status: SwitchoverStatus = SwitchoverStatus()


# ---------------------------------------------------------------------------- Failover (written by the operator)


class Phase(Struct, frozen=True, kw_only=True):
    """A step of a move: `name` as in the journal, `milliseconds` since the move's start (less than 0: before it)."""

    name: str
    milliseconds: int


class Pause(Struct, frozen=True, kw_only=True):
    """The pause as initiators felt it. Times are RFC 3339 with microseconds, "" where no host could see it."""

    last_completed_time: str = ""
    first_completed_time: str = ""
    milliseconds: int | None = None  # only where both are known


class FailoverSpec(Struct, frozen=True, kw_only=True):
    pair_ref: PairReference
    cause: str  # Planned | NodeLost | ServiceNetworkLost | HeartbeatStopped | ResourceFailed | OperatorError | Unknown
    to: str
    from_: str = msgspec.field(name="from", default="")
    start_time: (
        str  # RFC 3339 with microseconds: when the service was last reachable (or released), as the hosts know it
    )
    end_time: str  # the port was open again
    milliseconds: int
    incident: str  # the host's incident id
    request: str = ""  # "namespace/name" of the Switchover that asked for it
    message: str = ""  # why, in one sentence
    pause: Pause | None = None
    phases: tuple[Phase, ...] = ()


class Failover(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    spec: FailoverSpec
