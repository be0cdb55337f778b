"""Is a StorageNode's document one that a host can take? Parsed as its agent does, rendered, and read back."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface
from typing import Any

from storagepair_crds import views
from storagepair_node_agent import convergence, documents, exports, hostfiles, identity
from storagepair_node_agent.snapshot import Desired, ExportedTarget, LunFacts
from storagepair_node_agent.subsystems import bonds, drbd_files

_IPFAIL = "/usr/lib/heartbeat/ipfail"
_HA_CF = {
    *("logfile", "debugfile", "use_logd", "keepalive", "warntime", "deadtime", "initdead", "udpport", "ucast"),
    *("auto_failback", "node", "ping", "respawn", "apiauth", "crm", "autojoin"),
}
_PRINTABLE = re.compile(r"[\x20-\x7e\n]*")


def check(document: dict[str, Any]) -> None:
    """All that a host makes of its document is what the document says, line by line."""
    desired = documents.desired_of(document, document["metadata"]["name"])
    for text in (_heartbeat(desired), _drbd(desired), _service(desired), _network(desired), _exports(desired)):
        assert _PRINTABLE.fullmatch(text), repr(text)


def _lines(text: str) -> list[list[str]]:
    return [line.split(" ") for line in text.splitlines() if line and not line.startswith("#")]


def _heartbeat(desired: Desired) -> str:
    heart = desired.spec.heartbeat
    resources, ha_cf = (file.content for file in hostfiles.heartbeat_files(desired, _IPFAIL))
    assert _lines(resources) == [[heart.preferred, "storagepair"]]
    lines = _lines(ha_cf)
    assert {line[0] for line in lines} <= _HA_CF
    assert [line[1:] for line in lines if line[0] == "ucast"] == [
        [link.device, link.peer_address] for link in heart.links
    ]
    assert [line[1:] for line in lines if line[0] == "node"] == [[host.name] for host in desired.spec.replication.hosts]
    assert [line[1:] for line in lines if line[0] == "ping"] == [[address] for address in heart.ping_addresses]
    assert [line[1:] for line in lines if line[0] == "respawn"] == [["hacluster", _IPFAIL]] * bool(heart.ping_addresses)
    assert ["deadtime", str(heart.deadtime_seconds)] in lines
    return resources + ha_cf


def _drbd(desired: Desired) -> str:
    mirror = desired.spec.replication
    text = drbd_files.resource(mirror)
    hosts = re.findall(r'^    on "([^"\n]+)" \{\n        device \S+ minor 0;\n        disk "([^"\n]+)";', text, re.M)
    assert hosts == [(host.name, host.disk) for host in mirror.hosts]
    assert re.findall(r"^        address ipv4 (\S+);$", text, re.M) == [
        f"{h.address}:{mirror.port}" for h in mirror.hosts
    ]
    template = drbd_files.resource(_plain(mirror))
    assert [len(part) for part in (text.splitlines(), re.findall("[{;]", text))] == [
        len(part) for part in (template.splitlines(), re.findall("[{;]", template))
    ]
    return text


def _plain(mirror: views.NodeReplication) -> views.NodeReplication:
    """The same with names and disks that can't be anything but one word."""
    host = views.ReplicationHost(name="a", disk="/dev/a", address="10.0.0.1")
    return views.NodeReplication(hosts=(host, host), seed="a", port=mirror.port)


def _service(desired: Desired) -> str:
    spec = desired.spec
    files = {file.path: file.content for file in hostfiles.service_files(desired)}
    conf, table = files[hostfiles.SERVICE_CONF], files[hostfiles.PORT_TABLE]
    rows = _lines(conf)
    assert all(len(row) == 2 for row in rows), rows
    values = dict(rows)
    assert len(values) == len(rows)
    assert (values["node"], values["peer"]) == (desired.node, desired.peer)
    assert (values["mount"], values["fstype"]) == (spec.filesystem.mount_path, spec.filesystem.type)
    vip = IPv4Interface(spec.virtual_ip.address)
    assert (values["vip"], values["prefix"], values["bond"]) == (
        str(vip.ip),
        str(vip.network.prefixlen),
        spec.virtual_ip.device,
    )
    assert set(re.findall(r'[io]ifname "([^"\n]*)"', table)) == {spec.virtual_ip.device}
    assert table.count("{") == table.count("}")
    return conf + table


def _network(desired: Desired) -> str:
    lines = bonds.batch(desired.spec.bonds)
    assert all(re.fullmatch(r"(link|addr) (add|set) [A-Za-z0-9._/ -]+", line) for line in lines), lines
    assert sum(line.startswith("link add") for line in lines) == len(desired.spec.bonds)
    return "\n".join(lines)


def _exports(desired: Desired) -> str:
    """The table that tgtd's targets are made from, with an identity minted for each LUN."""
    pair, mount = convergence.pair_key(desired), desired.spec.filesystem.mount_path
    targets = tuple(
        ExportedTarget(
            target.name,
            identity.target_number(pair, target.iqn, frozenset()),
            target.iqn,
            {e.acl: tuple(convergence.normalised(a) for a in e.addresses) for e in target.initiators if e.addresses},
        )
        for target in desired.spec.targets
    )
    luns = tuple(_lun(pair, mount, number % 255 + 1, lun) for number, lun in enumerate(desired.spec.luns))
    table = exports.Table(targets, luns)
    text = exports.render(table)
    assert exports.parse(text, mount) == table
    return text


def _lun(pair: str, mount: str, number: int, lun: views.NodeLUN) -> LunFacts:
    minted = identity.mint("entropy", pair, lun.name, lun.target, number)
    found = identity.stored(lun.name, identity.document(minted), None)
    return identity.adopted(found, lun.size_bytes, f"{mount}/{exports.image(lun.name)}", lun.write_policy)
