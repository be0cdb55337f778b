"""Preflight: may this host be touched at all, and has it what the stack needs?

Each miss is one sentence that ends with its remedy. It judges by what it finds, not by the distribution's name;
package names in the remedies are Debian's.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from storagepair_crds import views

from storagepair_node_agent import record
from storagepair_node_agent.actions import Outcome, Verdict
from storagepair_node_agent.host import SEARCH_PATH, Host
from storagepair_node_agent.reasons import Reason
from storagepair_node_agent.snapshot import Desired, HostSnapshot, PreflightFacts
from storagepair_node_agent.subsystems import bonds

CLOCK_TOLERANCE_SECONDS = 30
_DRBD_API = "8.4."

_HEARTBEAT = "|".join(f"/usr/{folder}/heartbeat/heartbeat" for folder in ("libexec", "lib", "lib64"))
# program (or, after "|", another place for it) -> Debian package
PROGRAMS = {
    "drbdadm": "drbd-utils",
    "drbdsetup": "drbd-utils",
    "drbdmeta": "drbd-utils",
    _HEARTBEAT: "heartbeat",
    "cl_status": "heartbeat",
    "/usr/share/heartbeat/hb_standby|hb_standby|/usr/lib/heartbeat/hb_standby": "heartbeat",
    "tgtd": "tgt",
    "tgtadm": "tgt",
    "nft": "nftables",
    "ip": "iproute2",
    "modprobe": "kmod",
    "systemctl": "systemd",
    "blkid": "util-linux",
    "wipefs": "util-linux",
    "mount": "mount",
}
_MKFS = {"ext3": ("mkfs.ext3", "e2fsprogs"), "ext4": ("mkfs.ext4", "e2fsprogs"), "xfs": ("mkfs.xfs", "xfsprogs")}
_MODULES = ("drbd", "bonding")
_SOURCES = {  # what says its version, and the words before it
    "drbd_utils": ("drbdadm", "--version", "DRBDADM_VERSION="),
    "heartbeat": (_HEARTBEAT, "-V", ""),
    "tgt": ("tgtd", "--version", ""),
}


@dataclass(frozen=True)
class Miss:
    """One thing that is not as it must be. `always`: nothing may change on this host, be the service up or not."""

    reason: Reason
    message: str
    always: bool = False


def observe(host: Host, desired: Desired | None) -> PreflightFacts:
    """What is installed, loaded and recorded. A later pass does not fork: versions are remembered by their files."""
    release = os.uname().release
    host_record = record.read(host) or record.HostRecord()
    return PreflightFacts(
        uname=_host_name(host),
        kernel=release,
        os=_os_name(host),
        missing_programs=_missing_programs(host, desired),
        missing_modules=tuple(name for name in _MODULES if not _module_available(host, name, release)),
        versions=_versions(host, release),
        clock_offset_seconds=None,  # the loop knows it, from the API server's answers
        recorded_pair=host_record.pair or None,
        recorded_disk=host_record.disk or None,
        recorded_uid=host_record.uid or None,
        etc_protocols=host.exists("/etc/protocols"),
    )


def plan(desired: Desired, snapshot: HostSnapshot) -> Outcome:
    """Never an action, only the verdict."""
    found = misses(desired, snapshot)
    if not found:
        return Outcome(Verdict(True, "Passed", "The host has what the stack needs."))
    return Outcome(Verdict(False, found[0].reason, " ".join(miss.message for miss in found)))


def may_change(desired: Desired, snapshot: HostSnapshot) -> bool:
    """Whether the other subsystems may act: nothing is wrong, or the service runs here and must be cared for.

    A bad document changes nothing: where the disk is somebody's or a NIC is taken, the bonds are not made either.
    """
    found = misses(desired, snapshot)
    if any(miss.always for miss in found):
        return False
    if snapshot.active or (snapshot.heartbeat is not None and snapshot.heartbeat.running):
        return True
    foreign = snapshot.drbd is not None and snapshot.drbd.metadata == views.ReplicationMetadata.FOREIGN
    refused = snapshot.network is not None and bonds.refusals(desired, snapshot.network)
    return not (found or foreign or refused)


def misses(desired: Desired, snapshot: HostSnapshot) -> list[Miss]:
    """All that is wrong, the gravest first."""
    facts = snapshot.preflight
    if facts is None:
        return [Miss("Unobserved", f"{desired.node} could not be examined; see the agent's log.", always=True)]
    return [
        *_identity_misses(desired, facts),
        *_software_misses(desired, facts),
        *_disk_misses(desired, snapshot),
        *_network_misses(desired, snapshot),
        *_clock_misses(desired, facts),
    ]


def _identity_misses(desired: Desired, facts: PreflightFacts) -> list[Miss]:
    """A document that is not for this host, or for another pair or disk than the host was set up for."""
    found: list[Miss] = []
    node, spec = desired.node, desired.spec
    hosts = {host.name: host for host in spec.replication.hosts}
    if node not in hosts:
        names = " and ".join(hosts)
        return [Miss("WrongNode", f"spec.replication.hosts names {names}, not {node}: this is not its document.", True)]
    if facts.uname != node:
        found.append(
            Miss(
                "NodeNameDiffers",
                f"The node is called {node} but `uname -n` on the host says {facts.uname}; DRBD and Heartbeat go by "
                f"the latter. Make them equal: `hostnamectl hostname {node}`, or register the node by its host name.",
                True,
            )
        )
    pair = f"{spec.pair_ref.namespace}/{spec.pair_ref.name}"
    if facts.recorded_pair not in (None, pair):
        found.append(
            Miss(
                "OtherPair",
                f"{node} was set up for the pair {facts.recorded_pair} and its document names {pair}. Nothing is "
                f"changed. If the old pair's data on {facts.recorded_disk} may go, take the host out of it by hand "
                f"(stop Heartbeat, `drbdadm down storagepair`, wipe the disk) and remove {record.PATH}.",
                True,
            )
        )
    disk = hosts[node].disk
    if facts.recorded_disk not in (None, disk):
        found.append(
            Miss(
                "OtherDisk",
                f"spec.replication.hosts[{node}].disk is {disk}, but {node} was set up with {facts.recorded_disk}. "
                "Nothing is changed. Name the old disk again, or replace the node (docs: replace a disk).",
                True,
            )
        )
    return found


def _software_misses(desired: Desired, facts: PreflightFacts) -> list[Miss]:
    found: list[Miss] = []
    if facts.missing_programs:
        packages: dict[str, list[str]] = {}
        for program in facts.missing_programs:
            packages.setdefault(_package(program), []).append(program)
        for package, programs in packages.items():
            found.append(
                Miss(
                    "MissingProgram",
                    f"{desired.node} has no {', '.join(programs)}: `apt-get install {package}`.",
                )
            )
    for module in facts.missing_modules:
        found.append(
            Miss(
                "MissingModule",
                f"{desired.node}'s kernel {facts.kernel} has no module {module}: install the full kernel package "
                "(`apt-get install linux-image-amd64`; cloud and minimal kernels leave it out) and boot it.",
            )
        )
    drbd = facts.versions.get("drbd", "")
    if drbd and not drbd.startswith(_DRBD_API):
        found.append(
            Miss(
                "WrongDrbd",
                f"{desired.node}'s DRBD module is {drbd}; 8.4 is needed, the one inside Linux: remove the out-of-tree "
                "module (`apt-get remove drbd-dkms`) and boot again.",
            )
        )
    if desired.spec.heartbeat.ping_addresses and not facts.etc_protocols:
        found.append(
            Miss(
                "MissingProtocols",
                f"{desired.node} has no /etc/protocols, without which Heartbeat dies on spec.heartbeat.pingAddresses: "
                "`apt-get install netbase`.",
            )
        )
    return found


def _disk_misses(desired: Desired, snapshot: HostSnapshot) -> list[Miss]:
    node = desired.node
    path = next((host.disk for host in desired.spec.replication.hosts if host.name == node), "")
    field = f"spec.replication.hosts[{node}].disk"
    if snapshot.drbd is None:
        return [Miss("DiskUnobserved", f"{field}: {path} on {node} could not be examined; see the agent's log.")]
    if not snapshot.drbd.disk.present and not snapshot.drbd.up:
        return [
            Miss(
                "MissingDisk",
                f"{field}: {path} is no whole block device on {node} (see `lsblk` there). Attach the disk or name "
                "another one; partitions are not taken.",
            )
        ]
    return []


def _network_misses(desired: Desired, snapshot: HostSnapshot) -> list[Miss]:
    if snapshot.network is None:
        return [Miss("NetworkUnobserved", f"{desired.node}'s links could not be read; see the agent's log.")]
    found: list[Miss] = []
    for bond in desired.spec.bonds:
        gone = [name for name in bond.members if snapshot.network.interface(name) is None]
        if gone and len(gone) == len(bond.members):
            # a bond that lost one of its NICs still works and is reported by its own subsystem; without any it can't be
            found.append(Miss("MissingInterface", _missing_interface(desired.node, bond.name, gone)))
        elif gone and snapshot.network.interface(bond.name) is None:
            found.append(Miss("MissingInterface", _missing_interface(desired.node, bond.name, gone)))
    return found


def _missing_interface(node: str, bond: str, gone: list[str]) -> str:
    names = ", ".join(gone)
    return f"spec.bonds[{bond}].members: {node} has no interface {names} (see `ip link` there). Correct the name."


def _clock_misses(desired: Desired, facts: PreflightFacts) -> list[Miss]:
    offset = facts.clock_offset_seconds
    if offset is None or abs(offset) <= CLOCK_TOLERANCE_SECONDS:
        return []
    # without the figure: a message must not change by itself
    direction = "ahead of" if offset > 0 else "behind"
    return [
        Miss(
            "ClockOff",
            f"{desired.node}'s clock is more than {CLOCK_TOLERANCE_SECONDS} s {direction} the API server's; "
            "failovers would be recorded with wrong times. Set it and keep it: `apt-get install chrony`.",
        )
    ]


def _package(program: str) -> str:
    if program.startswith("mkfs."):
        return next(package for name, package in _MKFS.values() if name == program)
    return next(package for names, package in PROGRAMS.items() if _short(names) == program)


def _short(names: str) -> str:
    """The program's bare name: the first place's last part."""
    return names.split("|")[0].rpartition("/")[2]


def _missing_programs(host: Host, desired: Desired | None) -> tuple[str, ...]:
    """Looked up again when something was installed or removed: that changes its folder's time."""
    wanted = {_short(names): names.split("|") for names in PROGRAMS}
    if desired is not None:
        program = _MKFS[desired.spec.filesystem.type][0]
        wanted[program] = [program]
    folders = {place.rpartition("/")[0] for place in _HEARTBEAT.split("|")} | {*SEARCH_PATH.split(":")}
    stamps = (*wanted, *(host.stamp(folder) for folder in sorted(folders)))
    return host.remember(
        "programs", stamps, lambda: tuple(name for name, places in wanted.items() if not any(map(host.which, places)))
    )


def _module_available(host: Host, name: str, release: str) -> bool:
    """Loaded, built in, or listed in modules.dep (what modprobe looks in)."""
    if host.exists(f"/sys/module/{name}"):
        return True
    folder = f"/lib/modules/{release}"
    stamps = (host.stamp(f"{folder}/modules.dep"), host.stamp(f"{folder}/modules.builtin"))
    return host.remember(f"module {name}", stamps, lambda: _listed(host, name, folder))


def _listed(host: Host, name: str, folder: str) -> bool:
    for listing in ("modules.dep", "modules.builtin"):
        for line in (host.read(f"{folder}/{listing}") or "").splitlines():
            if line.partition(":")[0].rpartition("/")[2].partition(".")[0].replace("-", "_") == name:
                return True
    return False


def _host_name(host: Host) -> str:
    """`uname -n` on the host; a pod with hostNetwork usually shares its UTS namespace, but the runtime decides that."""
    try:
        shared = Path("/proc/self/ns/uts").readlink() == Path("/proc/1/ns/uts").readlink()
    except OSError:
        shared = True
    if shared:
        return os.uname().nodename
    minute = int(time.monotonic() / 60)
    return host.remember("host name", minute, lambda: host.run(("uname", "-n")).stdout.strip())


def _os_name(host: Host) -> str:
    for line in (host.read("/etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip('"')
    return ""


def _versions(host: Host, release: str) -> dict[str, str]:
    versions = {"drbd": _drbd_version(host, release)}
    for name, (programs, option, marker) in _SOURCES.items():
        path = next(filter(None, map(host.which, programs.split("|"))), None)
        if path is not None:
            versions[name] = host.remember(
                f"version {name}", (path, host.stamp(path)), partial(_version, host, (path, option), marker)
            )
    return {name: version for name, version in versions.items() if version}


def _drbd_version(host: Host, release: str) -> str:
    """Of the loaded module, as /proc/drbd's first line says, else of the one that modprobe would load."""
    words = (host.read("/proc/drbd") or "").split(maxsplit=2)
    if len(words) > 1:
        return words[1]
    stamp = host.stamp(f"/lib/modules/{release}/modules.dep")
    argv = ("modinfo", "--field", "version", "drbd")
    return host.remember("version drbd", stamp, lambda: host.run(argv).stdout.strip())


def _version(host: Host, argv: tuple[str, ...], marker: str) -> str:
    result = host.run(argv)
    if result.returncode != 0:
        return ""
    for line in result.stdout.splitlines():
        if line.startswith(marker) and line[len(marker) :].strip():
            return line[len(marker) :].split(maxsplit=1)[0]  # heartbeat: "3.0.6 (node: 958e11be...)"
    return ""
