"""DRBD's files on the host: the resource and the unit that brings it up at boot. Pure."""

from __future__ import annotations

from storagepair_crds import views

RESOURCE = "storagepair"
MINOR = 0
DEVICE = f"/dev/drbd{MINOR}"
CONFIG = f"/etc/drbd.d/{RESOURCE}.res"
UNIT = "storagepair-drbd.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"

# Of resyncRate, while initiators write: then the resync's controller goes down to c-min-rate.
_SHARE_UNDER_LOAD = 10
_LEAST_KIB = 250  # 0 would switch that off

# Debian's drbd.service brings up every resource of the host and waits for its peers; disabled by default, and ours
# neither needs nor disturbs it. `adjust` rather than `up`: it does nothing where the resource is up already.
UNIT_CONTENT = f"""\
# Made by storagepair-node-agent; changes are overwritten.
[Unit]
Description=DRBD resource {RESOURCE} (no other, and without waiting for the peer)
After=storagepair-network.service network.target drbd.service
Wants=network.target
Before=heartbeat.service
ConditionPathExists={CONFIG}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/drbdadm adjust {RESOURCE}
ExecStop=/sbin/drbdadm down {RESOURCE}
TimeoutStartSec=60
TimeoutStopSec=30

[Install]
WantedBy=multi-user.target
"""


def resource(replication: views.NodeReplication) -> str:
    """The resource file, the same on both hosts.

    Timers: a dead peer must be noticed before Heartbeat's deadtime (5 s at least): after `timeout` for a request or
    `ping-int` of silence and `ping-timeout` for the answer, 2 + 1 s at the most. Data safety options are all written
    out, so that a host's own `common` section can't weaken them.
    """
    fastest = replication.resync_rate_bytes // 1024
    slowest = max(_LEAST_KIB, fastest // _SHARE_UNDER_LOAD)
    hosts = "".join(_host(host, replication.port) for host in replication.hosts)
    return f"""\
# Made by storagepair-node-agent; changes are overwritten.
resource {RESOURCE} {{
    net {{
        protocol C;
        timeout 20;          # tenths of a second
        ping-int 2;          # seconds
        ping-timeout 10;     # tenths of a second
        connect-int 2;       # seconds
        verify-alg crc32c;
        rr-conflict disconnect;
        # only what loses nothing is solved without a person
        after-sb-0pri discard-zero-changes;
        after-sb-1pri disconnect;
        after-sb-2pri disconnect;
        allow-two-primaries no;
    }}
    disk {{
        on-io-error detach;
        fencing dont-care;
        disk-flushes yes;
        md-flushes yes;
        c-max-rate {fastest}k;
        c-min-rate {slowest}k;  # while there are other writes; drbd.conf(5)'s own 250k would take weeks for a terabyte
    }}
    startup {{
        # should somebody enable Debian's drbd.service: its default is to wait for ever
        wfc-timeout 15;
        degr-wfc-timeout 15;
        outdated-wfc-timeout 15;
    }}
{hosts}}}
"""


def _host(host: views.ReplicationHost, port: int) -> str:
    return f"""\
    on "{host.name}" {{
        device {DEVICE} minor {MINOR};
        disk "{host.disk}";
        meta-disk internal;
        address ipv4 {host.address}:{port};
    }}
"""
