"""Bonds: active-backup bonds and this node's addresses on them, now and at a boot without the agent.

Links are read by netlink in this process and changed by one `ip -batch`, whose lines come on stdin. A bond that is as
wanted is adopted, whoever made it; one that is not, or a NIC that somebody else uses, is refused with the field named.
Nothing is ever taken away from a bond: an address that no document names may be the floating one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from importlib import resources

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink import nlmsg
from storagepair_crds import views

from storagepair_node_agent.actions import Action, Outcome, RemoveFile, Run, Step, Verdict, WriteFile
from storagepair_node_agent.host import Host
from storagepair_node_agent.hostfiles import LIBRARY
from storagepair_node_agent.netlink import Monitor
from storagepair_node_agent.snapshot import Desired, HostSnapshot, Interface, NetworkFacts

MODE = "active-backup"
BATCH = "/etc/storagepair/network.batch"
UNIT = "storagepair-network.service"
_UNIT_FILE = f"/etc/systemd/system/{UNIT}"
_SCRIPT = f"{LIBRARY}/network-up"
_MODPROBE = "/etc/modprobe.d/storagepair.conf"
_LINK = "/etc/systemd/network/80-storagepair.link"
_AF_INET = 2
_ARPHRD_ETHER = 1
_IFF_UP = 1
_REREAD_SECONDS = 60
_MODE_NAMES = dict(
    enumerate(("balance-rr", MODE, "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"))
)  # linux/if_bonding.h

_BOOT_FILES = {
    # modprobe bonding makes a bond0 of its own otherwise (Documentation/networking/bonding.rst, max_bonds)
    _MODPROBE: "# storagepair: no bond0 that nobody asked for\noptions bonding max_bonds=0\n",
    _UNIT_FILE: f"""\
# Made by storagepair-node-agent; changes are overwritten.
[Unit]
Description=Bonds and addresses of the storage pair
Documentation=file://{BATCH}
Before=network.target network-online.target storagepair-drbd.service heartbeat.service
Wants=network.target
ConditionPathExists={BATCH}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={_SCRIPT}
TimeoutStartSec=60

[Install]
WantedBy=multi-user.target
""",
    _SCRIPT: resources.files("storagepair_node_agent").joinpath("hostfiles", "network-up").read_text(),
}
_MODES = {_SCRIPT: 0o755}


def observe(host: Host, desired: Desired | None) -> NetworkFacts:
    """Every link and IPv4 address, by netlink (the pod shares the host's network namespace)."""
    return NetworkFacts(
        interfaces=_links(host),
        persistent=host.read(BATCH),
        files={path: content for path in (*_BOOT_FILES, _LINK) if (content := host.read(path)) is not None},
        enabled=host.present(f"/etc/systemd/system/multi-user.target.wants/{UNIT}"),
    )


def plan(desired: Desired, snapshot: HostSnapshot) -> Outcome:
    """Make missing bonds, complete lacking ones, keep them for the next boot; refuse what is somebody else's."""
    facts = snapshot.network
    if facts is None:
        return Outcome(Verdict(False, "Unobserved", f"{desired.node}'s links could not be read; see the agent's log."))
    if refused := refusals(desired, facts):
        return Outcome(Verdict(False, "Refused", " ".join(refused)))
    missing = [bond for bond in desired.spec.bonds if _missing(facts, bond)]
    actions = [_create(facts, missing)] if missing else []
    actions += [
        Action("bonds.complete", f"{bond.name} on {desired.node}: {'; '.join(lines)}", (_ip_batch(lines),))
        for bond in desired.spec.bonds
        if bond not in missing and (lines := _completion(facts, bond))
    ]
    actions += _boot_actions(facts, [bond for bond in desired.spec.bonds if bond in missing or _ours(facts, bond)])
    if actions:
        names = ", ".join(bond.name for bond in desired.spec.bonds)
        text = f"{names} on {desired.node} are being set up."
        return Outcome(Verdict(False, "Configuring", text, waiting=True), tuple(actions))
    return Outcome(_verdict(desired, facts))


def refusals(desired: Desired, facts: NetworkFacts) -> list[str]:
    """Why bonds can't be made or completed without taking something from somebody; empty when all can."""
    return [text for bond in desired.spec.bonds for text in _refusals(desired, facts, bond)]


def batch(bonds: Iterable[views.NodeBond]) -> list[str]:
    """The `ip -batch` lines that make these bonds from nothing.

    A NIC must be down to be enslaved, or the kernel says "Device can not be enslaved while up".
    """
    lines: list[str] = []
    for bond in bonds:
        lines.append(f"link add name {bond.name} type bond mode {MODE} miimon {bond.miimon_milliseconds}")
        for member in bond.members:
            lines += [f"link set {member} down", f"link set {member} master {bond.name}"]
        lines.append(f"link set {bond.name} up")
        lines += [f"addr add {address} dev {bond.name}" for address in bond.addresses]
    return lines


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _ip_batch(lines: Iterable[str]) -> Run:
    return Run(("ip", "-batch", "-"), stdin=_text(lines))


def _refusals(desired: Desired, facts: NetworkFacts, bond: views.NodeBond) -> list[str]:
    node, found = desired.node, []
    existing = facts.interface(bond.name)
    if existing is not None and existing.kind != "bond":
        what = f"a {existing.kind}" if existing.kind else "a NIC"
        return [f"spec.bonds[{bond.name}]: {bond.name} is {what} on {node}, no bond. Choose another name for the bond."]
    if existing is not None and existing.mode != MODE and not _unused(facts, existing):
        found.append(
            f"spec.bonds[{bond.name}]: {bond.name} exists on {node} in mode {existing.mode}; storagepair makes {MODE} "
            f"bonds only. Remove it there (`ip link delete {bond.name}` and its configuration) or choose another name."
        )
    strangers = [i.name for i in facts.interfaces if i.master == bond.name and i.name not in bond.members]
    if strangers:
        found.append(
            f"spec.bonds[{bond.name}].members: {bond.name} on {node} has {', '.join(strangers)}, which the document "
            f"does not name. Name them, or remove them there (`ip link set {strangers[0]} nomaster`)."
        )
    for name in bond.members:
        nic = facts.interface(name)
        reason = _taken(nic, bond.name) if nic else ""
        if reason:
            found.append(
                f"spec.bonds[{bond.name}].members: {name} on {node} {reason}. It is left alone: free it there, or "
                "name another NIC."
            )
    return found


def _taken(nic: Interface, bond: str) -> str:
    """What somebody else uses this NIC for; "" when it is free or in this bond already."""
    if nic.master == bond:
        return ""
    if nic.master:
        return f"belongs to {nic.master}"
    if nic.default_route:
        return "carries the default route"
    if nic.addresses:
        return f"has the address {', '.join(nic.addresses)}"
    if nic.kind in ("bond", "bridge", "team"):
        return f"is a {nic.kind} itself"
    return ""


def _unused(facts: NetworkFacts, bond: Interface) -> bool:
    """As `modprobe bonding` leaves a bond0: without members and addresses, down. Nobody misses it."""
    return not (bond.up or bond.addresses or any(i.master == bond.name for i in facts.interfaces))


def _missing(facts: NetworkFacts, bond: views.NodeBond) -> bool:
    existing = facts.interface(bond.name)
    return existing is None or (existing.mode != MODE and _unused(facts, existing))


def _create(facts: NetworkFacts, bonds: list[views.NodeBond]) -> Action:
    """All missing bonds in one batch, all or none.

    The boot configuration is written first: a bond that a crash left half made is then known to be ours. `ip -batch`
    ends at the first line that fails, and then the rollback takes back bonds and configuration: deleting a bond frees
    its members.
    """
    before = facts.persistent
    undo: Step = RemoveFile(BATCH) if before is None else WriteFile(BATCH, before)
    replaced = [f"link delete {bond.name}" for bond in bonds if facts.interface(bond.name) is not None]
    return Action(
        "bonds.create",
        "make " + "; ".join(f"{b.name} of {', '.join(b.members)} with {', '.join(b.addresses)}" for b in bonds),
        (
            WriteFile(_MODPROBE, _BOOT_FILES[_MODPROBE]),
            WriteFile(_LINK, _link(bonds)),
            Run(("udevadm", "control", "--reload")),
            WriteFile(BATCH, _text(_other_lines(before, bonds) + batch(bonds))),
            _ip_batch(replaced + batch(bonds)),
        ),
        rollback=(*(Run(("ip", "link", "delete", bond.name)) for bond in bonds), undo),
    )


def _completion(facts: NetworkFacts, bond: views.NodeBond) -> list[str]:
    """The lines that make an existing bond as wanted: drift, or a creation that a crash cut short."""
    existing = facts.interface(bond.name)
    if existing is None:
        return []
    lines: list[str] = []
    if existing.miimon != bond.miimon_milliseconds:
        lines.append(f"link set {bond.name} type bond miimon {bond.miimon_milliseconds}")
    for name in bond.members:
        nic = facts.interface(name)
        if nic is not None and nic.master != bond.name:
            lines += [f"link set {name} down", f"link set {name} master {bond.name}"]
        elif nic is not None and not nic.up:
            lines.append(f"link set {name} up")
    if not existing.up:
        lines.append(f"link set {bond.name} up")
    lines += [f"addr add {address} dev {bond.name}" for address in bond.addresses if address not in existing.addresses]
    return lines


def _boot_actions(facts: NetworkFacts, ours: list[views.NodeBond]) -> list[Action]:
    """Keep our bonds for the next boot. A bond of the host's own configuration (adopted) stays that one's care."""
    if not ours:
        return []
    files = {**_BOOT_FILES, _LINK: _link(ours)}
    stale = [path for path, content in files.items() if facts.files.get(path) != content]
    steps: list[Step] = [WriteFile(path, files[path], _MODES.get(path, 0o644)) for path in stale]
    wanted = _text(_other_lines(facts.persistent, ours) + batch(ours))
    if facts.persistent != wanted and all(_ours(facts, bond) for bond in ours):
        steps.append(WriteFile(BATCH, wanted))  # else bonds.create writes it
    if not facts.enabled:
        # for the next boot only: systemd need not read its units again now, which takes many seconds on a small host
        steps.append(Run(("systemctl", "--no-reload", "enable", UNIT)))
    names = ", ".join(bond.name for bond in ours)
    return [Action("bonds.persist", f"keep {names} for the next boot", tuple(steps))] if steps else []


def _link(bonds: Iterable[views.NodeBond]) -> str:
    """For systemd's udev, whose 99-default.link gives a new bond a MAC address of its own making
    (MACAddressPolicy=persistent), in a race with the kernel, which gives it its first member's."""
    names = " ".join(bond.name for bond in bonds)
    return f"# Made by storagepair-node-agent.\n[Match]\nOriginalName={names}\n\n[Link]\nMACAddressPolicy=none\n"


def _ours(facts: NetworkFacts, bond: views.NodeBond) -> bool:
    """Made by us: it is in our boot configuration."""
    return f"link add name {bond.name} " in (facts.persistent or "")


def _other_lines(text: str | None, bonds: list[views.NodeBond]) -> list[str]:
    """The boot configuration's lines that make other bonds than these."""
    names = {bond.name for bond in bonds}
    kept: list[str] = []
    own = False
    for line in (text or "").splitlines():
        words = line.split()
        if words[:3] == ["link", "add", "name"]:
            own = words[3] in names
        if not own:
            kept.append(line)
    return kept


def _verdict(desired: Desired, facts: NetworkFacts) -> Verdict:
    for bond in desired.spec.bonds:
        for name in bond.members:
            nic = facts.interface(name)
            if nic is None:
                text = f"spec.bonds[{bond.name}].members: {desired.node} has no interface {name}; it runs without."
                return Verdict(False, "MissingMember", text)
            if not nic.carrier:
                return Verdict(
                    False,
                    "LinkDown",
                    f"{name} of {bond.name} on {desired.node} has no carrier: look at its cable, switch port and NIC.",
                )
    return Verdict(True, "Configured", "Bonds and addresses are as wanted.")


def _links(host: Host) -> tuple[Interface, ...]:
    """As last read, until netlink says something or a minute has passed: reading all is 150 times dearer."""
    monitor = host.remember("netlink monitor", None, Monitor)
    return host.remember("links", (monitor.drain(), int(time.monotonic() / _REREAD_SECONDS)), _read_links)


def _read_links() -> tuple[Interface, ...]:
    with IPRoute() as netlink:
        links = list(netlink.get_links())
        addresses: dict[int, list[str]] = {}
        for message in netlink.get_addr(family=_AF_INET):
            text = f"{message.get_attr('IFA_LOCAL')}/{message['prefixlen']}"
            addresses.setdefault(message["index"], []).append(text)
        routed = {
            route.get_attr("RTA_OIF")
            for route in netlink.get_routes(family=_AF_INET, table=254)
            if route["dst_len"] == 0
        }
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
    return tuple(
        _interface(link, names, tuple(sorted(addresses.get(link["index"], ()))), link["index"] in routed)
        for link in links
        if link["ifi_type"] == _ARPHRD_ETHER
    )


def _interface(link: nlmsg, names: dict[int, str], addresses: tuple[str, ...], routed: bool) -> Interface:
    info = link.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    data = info.get_attr("IFLA_INFO_DATA") if kind == "bond" else None
    mode = _MODE_NAMES.get(data.get_attr("IFLA_BOND_MODE"), "unknown") if data else ""
    active = (data.get_attr("IFLA_BOND_ACTIVE_SLAVE") or 0) if data else 0
    return Interface(
        name=names[link["index"]],
        kind=kind,
        carrier=bool(link.get_attr("IFLA_CARRIER")),
        master=names.get(link.get_attr("IFLA_MASTER") or 0, ""),
        addresses=addresses,
        default_route=routed,
        mode=mode,
        active_member=names.get(active, ""),
        up=bool(link["flags"] & _IFF_UP),
        miimon=(data.get_attr("IFLA_BOND_MIIMON") or 0) if data else 0,
    )
