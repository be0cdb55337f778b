"""What the agent saw on its host in one look: immutable, the only input of every plan() beside the desired document.

Each subsystem's observe() fills its part. `None` for a part means: it could not be seen (the observation failed), and a
plan that needs it does nothing and says so; it never means "not there".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from storagepair_crds import views


@dataclass(frozen=True)
class Desired:
    """This node's wanted state: the StorageNode document as the API or the host's last copy gave it."""

    node: str
    spec: views.NodeSpec
    generation: int
    authkey: str | None = field(default=None, repr=False)  # the Heartbeat secret; None when it could not be read

    @property
    def peer(self) -> str:
        """The other node's name."""
        return next(host.name for host in self.spec.replication.hosts if host.name != self.node)


@dataclass(frozen=True)
class Interface:
    """A network link as netlink shows it. `addresses` in interface form (10.10.25.131/24), IPv4 only."""

    name: str
    kind: str  # "" for a physical NIC, "bond", "bridge", ...
    carrier: bool
    master: str  # name of the bond or bridge it belongs to, "" if none
    addresses: tuple[str, ...] = ()
    default_route: bool = False  # a default route leaves through it
    mode: str = ""  # of a bond: "active-backup", ...
    active_member: str = ""  # of a bond
    up: bool = True  # administratively
    miimon: int = 0  # of a bond, milliseconds


@dataclass(frozen=True)
class DiskFacts:
    """The block device that replication shall use."""

    path: str
    present: bool = False
    size_bytes: int = 0
    signatures: tuple[str, ...] = ()  # what blkid/wipefs find: "ext4", "drbd", "gpt", ...
    in_use_by: tuple[str, ...] = ()  # mounts, holders, partitions
    zeroed: bool = False  # its first and last 4 MiB and samples between hold only zeros


@dataclass(frozen=True)
class PreflightFacts:
    uname: str  # `uname -n`
    kernel: str
    os: str
    missing_programs: tuple[str, ...]
    missing_modules: tuple[str, ...]  # neither loaded, nor builtin, nor to be found by modprobe
    versions: dict[str, str]  # drbd, drbd_utils, heartbeat, tgt
    clock_offset_seconds: float | None  # host clock minus the API server's; None when not known
    recorded_pair: str | None  # "namespace/name" that this host was set up for (host record), None if none
    recorded_disk: str | None
    recorded_uid: str | None = None  # of the StoragePair whose document was carried out last
    etc_protocols: bool = True  # Heartbeat's ping needs the file (Debian: netbase)


@dataclass(frozen=True)
class NetworkFacts:
    interfaces: tuple[Interface, ...]
    persistent: str | None  # content of the host's persistent bond configuration, None if absent
    files: dict[str, str] = field(default_factory=dict)  # path -> content: what else brings the bonds up at boot
    enabled: bool = False  # the boot unit is

    def interface(self, name: str) -> Interface | None:
        return next((i for i in self.interfaces if i.name == name), None)


@dataclass(frozen=True)
class DrbdFacts:
    """Resource `storagepair`. States are DRBD's own words; "" where the resource is not up."""

    disk: DiskFacts
    metadata: str  # views.ReplicationMetadata
    config: str | None  # content of the resource file on the host
    module_loaded: bool
    up: bool
    role: str = ""
    disk_state: str = ""
    peer_role: str = ""
    peer_disk_state: str = ""
    connection: str = ""
    synced_percent: int = 100
    suspended: bool = False  # DRBD holds I/O back: reading the device would block for ever
    drift: bool = False  # the running settings differ from the configuration file
    minor_holder: str = ""  # another resource that has minor 0
    unit: str | None = None  # content of the boot unit
    unit_enabled: bool = False


@dataclass(frozen=True)
class FilesystemFacts:
    """The replicated device's file system. `signature` is known only while the device is readable (Primary)."""

    signature: str | None  # "ext4", "" for none (provably empty head), None for not readable now
    mounted_at: str  # "" when not mounted
    formatted_record: bool  # the host record says that the pair's file system was made
    size_bytes: int = 0
    used_bytes: int = 0
    formatting_record: bool = False  # we found the device without any signature and were about to make the file system
    label: str = ""
    complete: bool = True  # its making was finished (a crashed mkfs leaves traces)
    zeroed: bool = False  # no signature, and the device's head holds only zeros


@dataclass(frozen=True)
class HeartbeatFacts:
    running: bool
    enabled: bool
    files: dict[str, str]  # path -> sha256 of the content of ha.cf, haresources, the resource script, conf, units...
    authkeys: str  # "Absent" | "Present"
    peer: str  # cl_status nodestatus PEER, "" when unknown
    links: tuple[tuple[str, str], ...] = ()  # (device, state)
    foreign: tuple[str, ...] = ()  # Heartbeat files that are there and not ours
    authkey_matches: bool = True  # the key in authkeys is the Secret's (or either is not known)
    units: frozenset[str] = frozenset()  # those of our units, tgt and heartbeat that are enabled at boot
    config_pending: bool = False  # Heartbeat runs with another ha.cf than the one on disk
    masked: bool = False  # a person has masked its unit: it shall not be started
    starting: bool = False  # not running, but systemd says that its unit is up: it has only just been started
    guardian: bool = True  # it runs
    has_run: bool = True  # Heartbeat was started on this host before, now or years ago
    ipfail: str = ""  # where this host has it, "" if nowhere
    tgt_config_iqns: tuple[str, ...] = ()  # our IQNs that tgt's own configuration loads at boot, with the file's name


@dataclass(frozen=True)
class LunFacts:
    """One LUN on the replicated file system (known on the active node only)."""

    name: str
    target: str
    number: int
    serial: str
    scsi_id: str
    size_bytes: int
    path: str
    write_policy: str
    file_bytes: int | None  # size of the backing file, None when it is missing
    vendor_id: str = ""
    product_id: str = ""


@dataclass(frozen=True)
class StoredLun:
    """A LUN's folder on the replicated file system that no line of the export table names: retained or just made."""

    name: str
    pair: str = (
        ""  # "namespace/name" of the pair that its identity was minted for; "" when there is no (readable) identity
    )
    target: str = ""
    number: int = 0
    serial: str = ""
    scsi_id: str = ""
    vendor_id: str = ""
    product_id: str = ""
    file_bytes: int | None = None  # None when there is no backing file (yet)


@dataclass(frozen=True)
class LogicalUnit:
    """A logical unit in tgtd now, without the controller (LUN 0)."""

    number: int
    path: str
    scsi_id: str
    serial: str
    flags: str = ""  # tgtd's backing store flags: "sync", "direct", ""
    online: bool = True


@dataclass(frozen=True)
class TargetFacts:
    """A target in tgtd now."""

    tid: int
    iqn: str
    luns: dict[int, str]  # number -> backing path
    acls: tuple[str, ...]
    sessions: tuple[tuple[int, int, str, str], ...] = ()  # (sid, cid, initiator name, address)
    units: tuple[LogicalUnit, ...] = ()


@dataclass(frozen=True)
class ExportedTarget:
    """A target of the export table on the replicated file system."""

    name: str
    tid: int
    iqn: str
    initiators: dict[str, tuple[str, ...]]  # InitiatorACL name -> normalised addresses


@dataclass(frozen=True)
class ServiceFacts:
    """What serves here now, and the export table (only readable where the file system is mounted)."""

    virtual_ip: bool
    port_open: bool
    tgtd_running: bool
    transition: bool  # the resource script holds its lock: somebody starts or stops the service right now
    targets: tuple[TargetFacts, ...] = ()
    storage_seen: bool = False  # the file system was mounted and looked into: what of it is not told here is not there
    table_readable: bool = False
    table_damaged: str = ""  # why the export table can't be understood
    exported_targets: tuple[ExportedTarget, ...] = ()
    luns: tuple[LunFacts, ...] = ()
    free_bytes: int = 0
    stored: tuple[StoredLun, ...] = ()
    port_table: bool = True  # the nftables table that keeps the port silent is loaded
    started: bool = False  # the resource script's own word: it brought the service up here and has not released it
    entropy: str = field(default="", compare=False)  # fresh random bits for minting an identity: keeps plan() pure


@dataclass(frozen=True)
class SwitchoverFacts:
    """The last Switchover that this host began to carry out, as it is kept there."""

    name: str = ""  # "namespace/name"; "" when there was none
    uid: str = ""
    to: str = ""
    since: int = 0  # seconds since 1970
    exit_code: int | None = None  # of the host's script; None when nobody saw its end
    said: str = ""  # its last line: a reason and a message
    now: float = field(default=0.0, compare=False)  # the host's clock at this look, seconds since 1970


@dataclass(frozen=True)
class HostSnapshot:
    """One look at the host."""

    preflight: PreflightFacts | None
    network: NetworkFacts | None
    drbd: DrbdFacts | None
    filesystem: FilesystemFacts | None
    heartbeat: HeartbeatFacts | None
    service: ServiceFacts | None
    switchover: SwitchoverFacts | None = None

    @property
    def active(self) -> bool:
        """All of the service is up here."""
        return (
            self.drbd is not None
            and self.filesystem is not None
            and self.service is not None
            and self.drbd.role == "Primary"
            and bool(self.filesystem.mounted_at)
            and self.service.virtual_ip
            and self.service.port_open
        )
