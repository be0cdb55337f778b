"""What is installed on a storage node for the service, and where: scripts, units, Heartbeat's files. Pure.

The scripts themselves lie in `hostfiles/` and are the same on every host; what differs between hosts is in one
line-based file that they read (`service.conf`), in the port's nftables table and in Heartbeat's files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from ipaddress import IPv4Interface

from storagepair_node_agent.snapshot import Desired
from storagepair_node_agent.subsystems.drbd_files import DEVICE, MINOR
from storagepair_node_agent.subsystems.drbd_files import UNIT as DRBD_UNIT

MARK = "Made by storagepair-node-agent; changes are overwritten."

LIBRARY = "/usr/lib/storagepair"
STATE = "/var/lib/storagepair"
RUN = "/run/storagepair"
LOCK = f"{RUN}/service.lock"
RUNNING_HA_CF = f"{RUN}/ha.cf"  # the configuration that Heartbeat was started with

SERVICE_CONF = "/etc/storagepair/service.conf"
PORT_TABLE = "/etc/storagepair/port.nft"
RESOURCE_SCRIPT = "/etc/ha.d/resource.d/storagepair"
HA_CF = "/etc/ha.d/ha.cf"
HARESOURCES = "/etc/ha.d/haresources"
AUTHKEYS = "/etc/ha.d/authkeys"

PORT_UNIT = "storagepair-port.service"
GUARDIAN_UNIT = "storagepair-guardian.service"
TGT_UNIT = "tgt.service"
HEARTBEAT_UNIT = "heartbeat.service"
_UNITS = "/etc/systemd/system"
PORT_UNIT_FILE = f"{_UNITS}/{PORT_UNIT}"
GUARDIAN_UNIT_FILE = f"{_UNITS}/{GUARDIAN_UNIT}"
TGT_DROP_IN = f"{_UNITS}/{TGT_UNIT}.d/storagepair.conf"
HEARTBEAT_DROP_IN = f"{_UNITS}/{HEARTBEAT_UNIT}.d/storagepair.conf"

WITH_LOCK = f"{LIBRARY}/with-lock"
PORT = f"{LIBRARY}/port"
EXPORTS = f"{LIBRARY}/exports"
STORAGE = f"{LIBRARY}/storage"
GUARDIAN = f"{LIBRARY}/guardian"
MOVE = f"{LIBRARY}/move"

_SOURCED = ("common.sh", "targets.sh", "initiators.sh", "story.sh", "service.sh")
_PROGRAMS = ("port", "with-lock", "exports", "storage", "guardian", "move")
_KEY = re.compile(r"[0-9A-Za-z]{16,128}")

PORT_UNIT_CONTENT = f"""\
# {MARK}
[Unit]
Description=storagepair: the iSCSI port is silent until the service is up here
DefaultDependencies=no
After=local-fs.target nftables.service
Before=network-pre.target tgt.service
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={PORT} load

[Install]
WantedBy=multi-user.target
"""

# tgtd holds nothing that a kill could lose (its configuration is in memory, its writes are in files). Ended by SIGKILL
# behind a closed port, no initiator hears of it, and a stop during the start can't hang: tgtd ignores SIGTERM.
# Debian's own ExecStop lines would take the targets away one by one in front of the initiators.
TGT_DROP_IN_CONTENT = f"""\
# {MARK}
[Unit]
Wants={PORT_UNIT}
After={PORT_UNIT}

[Service]
ExecStartPre={PORT} close
ExecStop=
ExecStop=-{PORT} close
ExecStopPost=-{PORT} close
KillSignal=SIGKILL
SuccessExitStatus=SIGKILL
TimeoutStopSec=15
Restart=always
"""

# Its takeover runs beside Heartbeat's shell scripts for the same one: ours shall not wait for theirs. By a real-time
# policy, because niceness counts only within a group of processes, and services may be groups of their own (sched(7)).
GUARDIAN_UNIT_CONTENT = f"""\
# {MARK}
[Unit]
Description=storagepair: takes over at once, puts back what was lost, tries again
After={PORT_UNIT} {TGT_UNIT} {DRBD_UNIT} {HEARTBEAT_UNIT}

[Service]
ExecStart={GUARDIAN}
Restart=always
RestartSec=2
CPUSchedulingPolicy=rr
CPUSchedulingPriority=1
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
"""

# Ordered after what the service is made of, so that a shutdown releases the service before it takes them away. A
# Heartbeat that was killed releases nothing: our own bounded stop does, so that the peer can have it at once.
HEARTBEAT_DROP_IN_CONTENT = f"""\
# {MARK}
[Unit]
Wants={TGT_UNIT} {DRBD_UNIT}
After={TGT_UNIT} {DRBD_UNIT} {PORT_UNIT}

[Service]
ExecStartPre=-/usr/bin/install -D -m 0600 {HA_CF} {RUNNING_HA_CF}
ExecStopPost=-/usr/bin/env STORAGEPAIR_CAUSE=HeartbeatStopped {RESOURCE_SCRIPT} stop
Restart=on-failure
RestartSec=15
"""


@dataclass(frozen=True)
class HostFile:
    """A file as it shall be on the host. `secret` keeps its content out of sight."""

    path: str
    content: str = field(repr=False)
    mode: int = 0o644
    secret: bool = False


def service_files(desired: Desired) -> tuple[HostFile, ...]:
    """All but Heartbeat's own configuration: harmless while Heartbeat does not run."""
    return (
        *(HostFile(f"{LIBRARY}/{name}", _packaged(name)) for name in _SOURCED),
        *(HostFile(f"{LIBRARY}/{name}", _packaged(name), 0o755) for name in _PROGRAMS),
        HostFile(RESOURCE_SCRIPT, _packaged("resource"), 0o755),
        HostFile(SERVICE_CONF, _service_conf(desired)),
        HostFile(PORT_TABLE, _port_table(desired)),
        HostFile(PORT_UNIT_FILE, PORT_UNIT_CONTENT),
        HostFile(GUARDIAN_UNIT_FILE, GUARDIAN_UNIT_CONTENT),
        HostFile(TGT_DROP_IN, TGT_DROP_IN_CONTENT),
        HostFile(HEARTBEAT_DROP_IN, HEARTBEAT_DROP_IN_CONTENT),
    )


def heartbeat_files(desired: Desired, ipfail: str) -> tuple[HostFile, ...]:
    """ha.cf and haresources. `ipfail`: where this host has that program, "" for nowhere."""
    return (
        HostFile(HARESOURCES, f"# {MARK}\n{desired.spec.heartbeat.preferred} storagepair\n"),
        HostFile(HA_CF, _ha_cf(desired, ipfail)),
    )


def authkeys(key: str) -> HostFile:
    """Heartbeat's shared secret. Raises ValueError for what is no key, without repeating it."""
    if not _KEY.fullmatch(key):
        raise ValueError("the authkey is not made of 16 to 128 letters and digits")
    return HostFile(AUTHKEYS, f"# {MARK}\nauth 1\n1 sha1 {key}\n", 0o600, secret=True)


def key_of(content: str) -> str:
    """The key in an authkeys file of ours, "" if there is none."""
    match = re.search(r"^1 sha1 (\S+)$", content, flags=re.MULTILINE)
    return match[1] if match else ""


@cache
def _packaged(name: str) -> str:
    return resources.files("storagepair_node_agent").joinpath("hostfiles", name).read_text()


def _service_conf(desired: Desired) -> str:
    """What the scripts need to know: "key value" lines, read by `read`, never evaluated."""
    spec = desired.spec
    vip = IPv4Interface(spec.virtual_ip.address)
    values = {
        "node": desired.node,
        "peer": desired.peer,
        "minor": str(MINOR),
        "device": DEVICE,
        "fstype": spec.filesystem.type,
        "mount": spec.filesystem.mount_path,
        "vip": str(vip.ip),
        "prefix": str(vip.network.prefixlen),
        "bond": spec.virtual_ip.device,
        "deadtime": str(spec.heartbeat.deadtime_seconds),
    }
    return f"# {MARK}\n" + "".join(f"{key} {value}\n" for key, value in values.items())


def _port_table(desired: Desired) -> str:
    """Packets to and from the virtual IP's iSCSI port are dropped unless the address is in the set `open`.

    So are those to the node's own addresses on the service bond: an initiator that logged in there would lose its
    disk in a failover, and could read stale data afterwards.

    The other sets note when initiators were answered (initiators.sh reads them): a target's PDU begins a TCP segment,
    and its first byte holds the opcode in six bits (RFC 7143, 11.2.1.2): 0x21 SCSI Response, 0x25 SCSI Data-In (which
    may carry the status), 0x23 Login Response.
    """
    vip = IPv4Interface(desired.spec.virtual_ip.address).ip
    bond = desired.spec.virtual_ip.device
    return f"""\
# {MARK}
table inet storagepair
delete table inet storagepair
table inet storagepair {{
    set open {{
        type ipv4_addr
    }}
    set answered {{
        type ipv4_addr
        size 4096
        flags dynamic,timeout
        timeout 1h
    }}
    set logins {{
        type ipv4_addr
        size 4096
        flags dynamic,timeout
        timeout 1h
    }}
    set resumed {{
        type ipv4_addr
        size 4096
        flags dynamic,timeout
        timeout 1h
    }}
    chain input {{
        type filter hook input priority -10; policy accept;
        ip daddr {vip} tcp dport 3260 ip daddr != @open drop
        iifname "{bond}" tcp dport 3260 ip daddr != @open drop
        iifname "{bond}" meta nfproto ipv6 tcp dport 3260 drop
    }}
    chain output {{
        type filter hook output priority -10; policy accept;
        ip saddr {vip} tcp sport 3260 ip saddr != @open drop
        oifname "{bond}" tcp sport 3260 ip saddr != @open drop
        oifname "{bond}" meta nfproto ipv6 tcp sport 3260 drop
        ip saddr {vip} tcp sport 3260 @ih,2,6 {{ 0x21, 0x25 }} update @answered {{ ip daddr }}
        ip saddr {vip} tcp sport 3260 @ih,2,6 {{ 0x21, 0x25 }} add @resumed {{ ip daddr }}
        ip saddr {vip} tcp sport 3260 @ih,2,6 0x23 add @logins {{ ip daddr }}
    }}
}}
"""


def _ha_cf(desired: Desired, ipfail: str) -> str:
    """Heartbeat's configuration. The order counts: udpport before the ucast lines that use it."""
    spec = desired.spec.heartbeat
    lines = [
        f"# {MARK}",
        "logfile /var/log/ha-log",
        "debugfile /var/log/ha-debug",
        "use_logd off",
        f"keepalive {spec.keepalive_seconds}",
        f"warntime {max(2 * spec.keepalive_seconds, spec.deadtime_seconds // 2)}",
        f"deadtime {spec.deadtime_seconds}",
        f"initdead {2 * spec.deadtime_seconds}",
        "udpport 694",
        *(f"ucast {link.device} {link.peer_address}" for link in spec.links),
        f"auto_failback {'on' if spec.auto_failback == 'Enabled' else 'off'}",
        *(f"node {host.name}" for host in desired.spec.replication.hosts),
        *(f"ping {address}" for address in spec.ping_addresses),
    ]
    if spec.ping_addresses and ipfail:
        lines += [f"respawn hacluster {ipfail}", "apiauth ipfail gid=haclient uid=hacluster"]
    lines += ["crm off", "autojoin none"]
    return "\n".join(lines) + "\n"
