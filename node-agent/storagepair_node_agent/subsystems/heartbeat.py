"""Heartbeat and what it needs on the host: the scripts, the silent port, tgt, its own configuration.

Nothing of it before the document says `Run`: from then on Heartbeat alone decides who serves, and this module starts
it where it does not run, but never stops, restarts or moves anything.
"""

from __future__ import annotations

import hashlib
import stat
import time

from storagepair_node_agent import hostfiles
from storagepair_node_agent.actions import Action, MakeDirectory, Outcome, Run, Step, Verdict, WriteFile
from storagepair_node_agent.host import Host
from storagepair_node_agent.hostfiles import (
    AUTHKEYS,
    GUARDIAN_UNIT,
    HA_CF,
    HARESOURCES,
    HEARTBEAT_UNIT,
    LIBRARY,
    LOCK,
    MARK,
    PORT,
    PORT_TABLE,
    PORT_UNIT,
    RUNNING_HA_CF,
    STATE,
    TGT_UNIT,
    HostFile,
)
from storagepair_node_agent.reasons import Reason
from storagepair_node_agent.snapshot import Desired, DrbdFacts, HeartbeatFacts, HostSnapshot

_PID_FILE = "/run/heartbeat.pid"
_HA_LOG = "/var/log/ha-log"
_HB_UUID = "/var/lib/heartbeat/hb_uuid"  # Heartbeat makes it at its first start on a host, and keeps it
_IPFAIL = ("/usr/libexec/heartbeat/ipfail", "/usr/lib/heartbeat/ipfail", "/usr/lib64/heartbeat/ipfail")
_GUARDIAN_READS = (hostfiles.SERVICE_CONF, hostfiles.GUARDIAN_UNIT_FILE)
_TGT_CONF = "/etc/tgt/targets.conf"
_TGT_CONF_FOLDER = "/etc/tgt/conf.d"
_WANTED_AT_BOOT = "/etc/systemd/system/multi-user.target.wants"
_MASKS = tuple(f"{folder}/{HEARTBEAT_UNIT}" for folder in ("/etc/systemd/system", "/run/systemd/system"))
_UNITS = (PORT_UNIT, TGT_UNIT, HEARTBEAT_UNIT, GUARDIAN_UNIT)
_GUARDIAN_PIDS = f"/sys/fs/cgroup/system.slice/{GUARDIAN_UNIT}/cgroup.procs"
_OURS_ALONE = (HA_CF, HARESOURCES, AUTHKEYS)  # files that a person may have written before us


def observe(host: Host, desired: Desired | None) -> HeartbeatFacts:
    """Files by their fingerprints, units, and Heartbeat's own answers (never systemd's: its start proves nothing)."""
    ipfail = next((path for path in _IPFAIL if host.present(path)), "")
    authkeys = host.read(AUTHKEYS) or ""
    key = hostfiles.key_of(authkeys) if MARK in authkeys else ""
    secret = desired.authkey if desired is not None else None
    running, peer, links = _asked(host, desired)
    foreign = tuple(path for path in _OURS_ALONE if (text := host.read(path)) and MARK not in text)
    running_ha_cf = host.read(RUNNING_HA_CF)
    return HeartbeatFacts(
        running=running,
        enabled=HEARTBEAT_UNIT in (units := _enabled(host)),
        files=_fingerprints(host, desired, ipfail) if desired is not None else {},
        authkeys="Present" if key else "Absent",
        peer=peer,
        links=links,
        foreign=foreign,
        authkey_matches=not key or secret is None or key == secret,
        units=units,
        config_pending=running and running_ha_cf is not None and running_ha_cf != host.read(HA_CF),
        masked=any(_is_mask(host, path) for path in _MASKS),
        starting=not running and _unit_is_up(host),
        ipfail=ipfail,
        guardian=bool(host.read(_GUARDIAN_PIDS)),
        has_run=host.present(_HB_UUID),
        tgt_config_iqns=_tgt_config(host, desired),
    )


def plan(desired: Desired, snapshot: HostSnapshot) -> Outcome:
    """Install, enable, start; one group a pass, each on top of what was seen to be there."""
    facts, node = snapshot.heartbeat, desired.node
    if facts is None:
        return Outcome(Verdict(False, "Unobserved", f"Heartbeat on {node} could not be examined; see the agent's log."))
    if desired.spec.service != "Run":
        return _waiting("WaitingForPreparation", "Heartbeat is set up when both hosts hold the same data.")
    if refusal := _refusal(desired, facts):
        return Outcome(refusal)
    if facts.authkeys == "Absent" and desired.authkey is None:
        name = (
            f"{desired.spec.heartbeat.authkeys_secret_ref.namespace}/{desired.spec.heartbeat.authkeys_secret_ref.name}"
        )
        return _waiting("WaitingForAuthkey", f"The Secret {name} with Heartbeat's key can't be read yet.")
    if action := _install(desired, facts) or _enable(facts):
        return Outcome(Verdict(False, "Installing", f"Heartbeat is being set up on {node}.", waiting=True), (action,))
    if snapshot.service is None or snapshot.drbd is None:
        return _waiting("Unobserved", f"The storage or tgtd on {node} could not be examined; see the agent's log.")
    if not snapshot.service.tgtd_running:
        return _start(TGT_UNIT, "start tgtd, which serves nothing until Heartbeat says so", node)
    if not snapshot.service.port_table:
        load = Run((PORT, "load"))
        action = Action("heartbeat.load-port", "put the port's nftables table back into the kernel", (load,))
        return Outcome(
            Verdict(False, "PortUnguarded", f"The port's table was gone on {node}.", waiting=True), (action,)
        )
    if not facts.running:
        if facts.starting:
            return _waiting("Starting", f"Heartbeat has been started on {node}.")
        if facts.masked:
            text = f"{HEARTBEAT_UNIT} is masked on {node}: {node} is held back, and can't take over"
            return Outcome(Verdict(False, "Masked", f"{text}. To end that: `systemctl unmask heartbeat` there."))
        if not snapshot.drbd.up:
            return _waiting("WaitingForReplication", f"DRBD is not up on {node}: Heartbeat is started after it.")
        if not facts.has_run and _peer_goes_first(desired, snapshot.drbd):
            return _waiting("WaitingForPreferred", f"{desired.peer} serves first: Heartbeat on {node} is started then.")
        return _start(HEARTBEAT_UNIT, "start Heartbeat, which decides who serves", node)
    if not facts.guardian:
        return _start(GUARDIAN_UNIT, "start the guardian, which looks after what Heartbeat does not", node)
    return Outcome(_running(desired, facts))


def _refusal(desired: Desired, facts: HeartbeatFacts) -> Verdict | None:
    """What is somebody else's stays as it is, and is said."""
    node = desired.node
    if facts.foreign:
        text = (
            f"{', '.join(facts.foreign)} on {node} were not made by storagepair: is another Heartbeat set up there? "
            "Nothing is changed; move them away to let storagepair set it up"
        )
        return Verdict(False, "ForeignHeartbeat", text)
    if facts.tgt_config_iqns:
        text = (
            f"{'; '.join(facts.tgt_config_iqns)} on {node}: tgt would serve the pair's target at boot, on both nodes. "
            "Remove it from that file"
        )
        return Verdict(False, "TargetInTgtConfiguration", text)
    if desired.spec.heartbeat.ping_addresses and not facts.ipfail:
        text = f"spec.heartbeat.pingAddresses needs ipfail, and {node} has none: reinstall the package heartbeat"
        return Verdict(False, "IpfailMissing", text)
    return None


def _install(desired: Desired, facts: HeartbeatFacts) -> Action | None:
    """Write what differs. The folder that the storage is mounted on comes with the service's configuration."""
    files = (*hostfiles.service_files(desired), *hostfiles.heartbeat_files(desired, facts.ipfail))
    changed = [file for file in files if facts.files.get(file.path) != _fingerprint(file.content, file.mode)]
    if facts.authkeys == "Absent" and desired.authkey is not None:
        changed.append(hostfiles.authkeys(desired.authkey))
    if not changed:
        return None
    steps: list[Step] = []
    if any(file.path.startswith(LIBRARY) for file in changed):
        # the mount point shows nothing and takes nothing while the storage is not mounted
        steps += [MakeDirectory(STATE), MakeDirectory(desired.spec.filesystem.mount_path, 0o700)]
    steps += [WriteFile(file.path, file.content, file.mode, file.secret) for file in _last(changed, HA_CF)]
    if any("/systemd/" in file.path for file in changed):
        steps.append(Run(("systemctl", "daemon-reload"), timeout_seconds=60))
    if any(file.path == PORT_TABLE for file in changed):
        steps.append(Run((PORT, "load")))
    if facts.guardian and any(file.path.startswith(LIBRARY) or file.path in _GUARDIAN_READS for file in changed):
        # it holds its scripts in memory. Under the service's lock: a takeover that it carries out must not die with it
        restart = ("flock", "-w", "90", LOCK, "systemctl", "try-restart", GUARDIAN_UNIT)
        steps.append(Run(restart, timeout_seconds=150))
    names = ", ".join(file.path for file in changed)
    return Action("heartbeat.install", f"write {names}", tuple(steps))


def _last(files: list[HostFile], path: str) -> list[HostFile]:
    """In order, but `path` at the end: ha.cf says that the rest is there."""
    return sorted(files, key=lambda file: file.path == path)


def _enable(facts: HeartbeatFacts) -> Action | None:
    missing = [unit for unit in _UNITS if unit not in facts.units and not (unit == HEARTBEAT_UNIT and facts.masked)]
    if not missing:
        return None
    steps: list[Step] = [Run(("systemctl", "enable", *missing), timeout_seconds=60)]
    if PORT_UNIT in missing:
        steps.append(Run(("systemctl", "start", PORT_UNIT), timeout_seconds=60))
    return Action("heartbeat.enable", f"enable {', '.join(missing)} at boot", tuple(steps))


def _peer_goes_first(desired: Desired, drbd: DrbdFacts) -> bool:
    """Whether the preferred peer is there and has still to take the service. Left to themselves, the first of two
    Heartbeats to be started serves when the other one is later than initdead, and agents can be that far apart."""
    nobody_serves = (drbd.role, drbd.peer_role) == ("Secondary", "Secondary")
    return nobody_serves and desired.spec.heartbeat.preferred == desired.peer


def _start(unit: str, summary: str, node: str) -> Outcome:
    # a unit that failed five times in a row would refuse to start
    steps = (Run(("systemctl", "reset-failed", unit)), Run(("systemctl", "start", unit), timeout_seconds=90))
    action = Action(f"heartbeat.start-{unit.removesuffix('.service')}", summary, steps)
    return Outcome(Verdict(False, "NotRunning", f"{unit} does not run on {node}.", waiting=True), (action,))


def _running(desired: Desired, facts: HeartbeatFacts) -> Verdict:
    node, peer = desired.node, desired.peer
    if not facts.authkey_matches:
        text = (
            f"{AUTHKEYS} on {node} holds another key than the Secret: it is kept. Put that key into the Secret, or "
            "remove the file on both hosts"
        )
        return Verdict(False, "AuthkeyDiffers", text)
    if facts.config_pending:
        text = (
            f"{HA_CF} on {node} was changed while Heartbeat runs: it takes effect at its next start. When {node} is "
            "the standby, run `systemctl restart heartbeat` there"
        )
        return Verdict(False, "RestartPending", text)
    dead = [device for device, state in facts.links if state != "up"]
    if dead and facts.peer == "active":
        return Verdict(
            False, "LinkDown", f"Heartbeat hears nothing from {peer} over {', '.join(dead)}: check the cables"
        )
    return Verdict(True, "Running", f"Heartbeat runs; {peer} is {facts.peer or 'unknown'}.")


def _waiting(reason: Reason, message: str) -> Outcome:
    return Outcome(Verdict(False, reason, message, waiting=True))


# ---------------------------------------------------------------------------- looking


def _fingerprint(content: str, mode: int) -> str:
    """Of a file's content and mode: Heartbeat refuses authkeys and scripts with a wrong one."""
    return hashlib.sha256(f"{mode:o}\n{content}".encode()).hexdigest()


def _fingerprints(host: Host, desired: Desired, ipfail: str) -> dict[str, str]:
    files = (*hostfiles.service_files(desired), *hostfiles.heartbeat_files(desired, ipfail))
    found = {}
    for file in files:
        content = host.read(file.path)
        if content is not None:
            found[file.path] = _fingerprint(content, stat.S_IMODE(host.path(file.path).stat().st_mode))
    return found


def _enabled(host: Host) -> frozenset[str]:
    """The links that `systemctl enable` makes; asking systemctl would be a fork per look."""
    return frozenset(unit for unit in _UNITS if host.present(f"{_WANTED_AT_BOOT}/{unit}"))


def _asked(host: Host, desired: Desired | None) -> tuple[bool, str, tuple[tuple[str, str], ...]]:
    """(running, the peer's status, the links' states), by cl_status: asked again when Heartbeat logged anything, and
    every half minute. Each question is a fork on the host."""
    pid = (host.read(_PID_FILE) or "").strip()
    if not pid.isdecimal() or not host.exists(f"/proc/{pid}"):
        return False, "", ()
    peer = desired.peer if desired is not None else ""
    devices = tuple(link.device for link in desired.spec.heartbeat.links) if desired is not None else ()

    def ask() -> tuple[bool, str, tuple[tuple[str, str], ...]]:
        status = host.run(("cl_status", "hbstatus"))
        if status.returncode == 124:
            raise TimeoutError(status.stderr)  # no answer is not the answer that it does not run
        if status.returncode != 0:
            return False, "", ()
        if not peer:
            return True, "", ()
        answer = host.run(("cl_status", "nodestatus", peer)).stdout.strip()
        links = (host.run(("cl_status", "hblinkstatus", peer, device)).stdout.strip() for device in devices)
        return True, answer, tuple(zip(devices, links, strict=True))

    fingerprint = (pid, peer, devices, host.stamp(_HA_LOG), host.changes, int(time.monotonic() // 30))
    return host.remember("heartbeat.status", fingerprint, ask)


def _is_mask(host: Host, path: str) -> bool:
    """systemd's own sign that a unit shall not be started: a link to /dev/null in its place (systemd.unit(5))."""
    unit = host.path(path)
    return unit.is_symlink() and str(unit.readlink()) == "/dev/null"


def _unit_is_up(host: Host) -> bool:
    """Only asked while Heartbeat does not answer: a start that was just made must not be made again and again."""
    words = host.run(("systemctl", "is-active", HEARTBEAT_UNIT)).stdout.split()
    return words[:1] in (["active"], ["activating"], ["deactivating"])


def _tgt_config(host: Host, desired: Desired | None) -> tuple[str, ...]:
    """Where tgt's own configuration, which Debian's unit loads on both nodes at boot, names a target of ours."""
    folder = host.path(_TGT_CONF_FOLDER)
    paths = [_TGT_CONF, *(f"{_TGT_CONF_FOLDER}/{entry.name}" for entry in sorted(folder.glob("*.conf")))]
    iqns = [target.iqn for target in desired.spec.targets] if desired is not None else []
    return tuple(f"{path}: {iqn}" for path in paths for iqn in iqns if _names(host.read(path) or "", iqn))


def _names(text: str, iqn: str) -> bool:
    lines = (line.split("#", 1)[0] for line in text.splitlines())
    return any(iqn in line.replace(">", " ").split() for line in lines)
