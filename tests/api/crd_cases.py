"""What the CRDs accept and refuse, as tables for test_crds.py: changes of good documents, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SAMPLES = {
    document["kind"]: document
    for document in yaml.safe_load_all((ROOT / "manifests" / "samples" / "storagepair.yaml").read_text())
}
# good documents of all kinds
DOCUMENTS = {
    **SAMPLES,
    "StorageNode": yaml.safe_load((Path(__file__).parent / "storagenode.yaml").read_text()),
    "Failover": yaml.safe_load((Path(__file__).parent / "failover.yaml").read_text()),
    "Switchover": yaml.safe_load((Path(__file__).parent / "switchover.yaml").read_text()),
}
PAIR, LUN, ACL, SNODE = "StoragePair", "LUN", "InitiatorACL", "StorageNode"
RECORD, MOVE = "Failover", "Switchover"
NODE_MOVE = {"name": "default/to-node2", "uid": "0b5e1a9c-1", "to": "node2"}

Change = tuple[str, Any]  # a path such as `spec.nodes.0.disk` and what to put there; ... takes it away

BOND2 = {"name": "bond2", "members": ["eth4"]}
VIP, IPS = "spec.virtualIP.address", "spec.nodes.0.addresses"
IPS_FIELD = "spec.nodes[0].addresses"
FIELD_VIP, FIELD_ACL = "spec.virtualIP.address", "spec.addresses[0]"
MESSAGE_VIP_NETWORK = "must lie in the network of the nodes' addresses on its bond"
MESSAGE_ONE_MACHINE = "must be the IPv4 address and prefix length of one machine, such as 10.10.25.131/24"
MESSAGE_ACL = "must be an IPv4 address or network, such as 10.10.26.7 or 10.10.25.0/24"
MESSAGE_IQN = "should match '^iqn"
MESSAGE_MOUNT = "must be an own directory such as /storage or /srv/storage"
MESSAGE_RATE = "must be a whole number of bytes per second from 250Ki to 4Gi"

# kind, changes, the field that the API server must name, what it must say of it
REFUSED: list[tuple[str, list[Change], str, str]] = [
    # names become file names on the hosts
    (PAIR, [("metadata.name", "vm.store")], "metadata.name", "should match"),
    (PAIR, [("metadata.name", "a" * 64)], "metadata.name", "Too long: may not be more than 63 bytes"),
    (LUN, [("metadata.name", "data.store")], "metadata.name", "should match"),
    (LUN, [("metadata.name", "a" * 64)], "metadata.name", "Too long: may not be more than 63 bytes"),
    (ACL, [("metadata.name", "e.sx")], "metadata.name", "should match"),
    (SNODE, [("metadata.name", "a" * 64)], "metadata.name", "Too long: may not be more than 63 bytes"),
    # two nodes
    (PAIR, [("spec.nodes.1", ...)], "spec.nodes", "should have at least 2 items"),
    (PAIR, [("spec.nodes.2", {**SAMPLES[PAIR]["spec"]["nodes"][0], "name": "c"})], "spec.nodes", "must have at most 2"),
    (PAIR, [("spec.nodes.1.name", "node1")], "spec.nodes[1]", 'Duplicate value: {"name":"node1"}'),
    (PAIR, [("spec.nodes.1.name", "Node2")], "spec.nodes[1].name", "should match"),
    (PAIR, [("spec.nodes.0.disk", "/dev/../etc/passwd")], "spec.nodes[0].disk", "should match"),
    (PAIR, [("spec.nodes.0.disk", "vdb")], "spec.nodes[0].disk", "should match"),
    (PAIR, [("spec.nodes.0.disk", "/dev/")], "spec.nodes[0].disk", "should match"),
    (PAIR, [("spec.nodes.0.disk", "/dev/vdb x")], "spec.nodes[0].disk", "should match"),
    # addresses
    (PAIR, [(f"{IPS}.0.address", "10.10.25.131")], f"{IPS_FIELD}[0].address", MESSAGE_ONE_MACHINE),
    (PAIR, [(f"{IPS}.0.address", "10.10.25.256/24")], f"{IPS_FIELD}[0].address", MESSAGE_ONE_MACHINE),
    (PAIR, [(f"{IPS}.0.address", "10.10.25.0131/24")], f"{IPS_FIELD}[0].address", MESSAGE_ONE_MACHINE),
    (PAIR, [(f"{IPS}.0.address", "127.0.0.1/8")], f"{IPS_FIELD}[0].address", MESSAGE_ONE_MACHINE),
    (PAIR, [(f"{IPS}.0.address", "fd00::1/64")], f"{IPS_FIELD}[0].address", MESSAGE_ONE_MACHINE),
    (PAIR, [(f"{IPS}.0.address", "10.10.25.0/24")], f"{IPS_FIELD}[0].address", "is the address of the network itself"),
    (PAIR, [(f"{IPS}.1.address", "10.10.25.7/24")], IPS_FIELD, "must lie in different networks, one per bond"),
    (PAIR, [(f"{IPS}.1.bond", "bond0")], f"{IPS_FIELD}[1]", "Duplicate value"),
    (PAIR, [(f"{IPS}.1.address", "192.168.2.131/24")], "spec.nodes", "must lie in one network"),
    (PAIR, [(f"{IPS}.1.address", "192.168.1.131/25")], "spec.nodes", "with the same prefix length"),
    (PAIR, [(f"{IPS}.1.address", "192.168.1.132/24")], "spec.nodes", "the two nodes have the same address"),
    (PAIR, [(f"{IPS}.2", {"bond": "bond9", "address": "10.0.0.1/24"})], "spec.nodes", "a bond that spec.bonds has"),
    (PAIR, [(f"{IPS}.1", ...)], "spec.nodes", "both nodes need an address on replication.bond"),
    (PAIR, [(f"{IPS}.0", ...)], "spec.nodes", "both nodes need an address on virtualIP.bond"),
    (
        PAIR,
        [("spec.bonds.2", BOND2), ("spec.heartbeat.links", ["bond2", "bond0"])],
        "spec.nodes",
        "both nodes need an address on the bond of every heartbeat link",
    ),
    # bonds
    (PAIR, [("spec.bonds", [])], "spec.bonds", "should have at least 1 items"),
    (PAIR, [("spec.bonds.1.name", "bond0")], "spec.bonds[1]", "Duplicate value"),
    (PAIR, [("spec.bonds.1.members", ["eth2", "eth0"])], "spec.bonds", "a NIC may be a member of one bond only"),
    (PAIR, [("spec.bonds.1.members", ["eth2", "bond0"])], "spec.bonds", "a bond can't be a member of a bond"),
    (PAIR, [("spec.bonds.1.members", ["eth2", "eth2"])], "spec.bonds[1].members", "a NIC is named twice"),
    (PAIR, [("spec.bonds.1.members", [])], "spec.bonds[1].members", "should have at least 1 items"),
    (PAIR, [("spec.bonds.2", {"name": "lo", "members": ["eth4"]})], "spec.bonds[2].name", "the kernel's own names"),
    (PAIR, [("spec.bonds.0.members.0", "eth/0")], "spec.bonds[0].members[0]", "should match"),
    (PAIR, [("spec.bonds.0.members.0", "..")], "spec.bonds[0].members[0]", "should match"),
    (PAIR, [("spec.bonds.0.members.0", "enp0s31f6abcdefg")], "spec.bonds[0].members[0]", "Too long"),
    (PAIR, [("spec.bonds.0.miimonMilliseconds", 0)], "spec.bonds[0].miimonMilliseconds", "greater than or equal to 10"),
    # replication
    (PAIR, [("spec.replication.bond", "bond9")], "spec.replication.bond", "name of a bond that spec.bonds has"),
    (PAIR, [("spec.replication.port", 3260)], "spec.replication.port", "the port of the iSCSI targets"),
    (PAIR, [("spec.replication.resyncRate", "1Ki")], "spec.replication.resyncRate", MESSAGE_RATE),
    (PAIR, [("spec.replication.resyncRate", "5Gi")], "spec.replication.resyncRate", MESSAGE_RATE),
    (PAIR, [("spec.replication.resyncRate", "quick")], "spec.replication.resyncRate", MESSAGE_RATE),
    # file system
    (PAIR, [("spec.filesystem.type", "btrfs")], "spec.filesystem.type", 'supported values: "ext3", "ext4", "xfs"'),
    (PAIR, [("spec.filesystem.mountPath", "/")], "spec.filesystem.mountPath", "should match"),
    (PAIR, [("spec.filesystem.mountPath", "/etc")], "spec.filesystem.mountPath", MESSAGE_MOUNT),
    (PAIR, [("spec.filesystem.mountPath", "/var/lib/kubelet")], "spec.filesystem.mountPath", MESSAGE_MOUNT),
    (PAIR, [("spec.filesystem.mountPath", "/usr/local")], "spec.filesystem.mountPath", MESSAGE_MOUNT),
    (PAIR, [("spec.filesystem.mountPath", "/boot")], "spec.filesystem.mountPath", MESSAGE_MOUNT),
    (PAIR, [("spec.filesystem.mountPath", "/srv")], "spec.filesystem.mountPath", MESSAGE_MOUNT),
    (PAIR, [("spec.filesystem.mountPath", "storage")], "spec.filesystem.mountPath", "should match"),
    (PAIR, [("spec.filesystem.mountPath", "/a/../etc")], "spec.filesystem.mountPath", "should match"),
    # Heartbeat
    (PAIR, [("spec.heartbeat.links", ["bond1"])], "spec.heartbeat.links", "should have at least 2 items"),
    (PAIR, [("spec.heartbeat.links", ["bond1", "bond1"])], "spec.heartbeat.links", "must be different bonds"),
    (PAIR, [("spec.heartbeat.links.0", "bond9")], "spec.heartbeat.links", "names of bonds that spec.bonds has"),
    (PAIR, [("spec.heartbeat.deadtimeSeconds", 4)], "spec.heartbeat.deadtimeSeconds", "greater than or equal to 5"),
    (
        PAIR,
        [("spec.heartbeat.keepaliveSeconds", 2)],
        "spec.heartbeat.deadtimeSeconds",
        "must be at least three times keepaliveSeconds",
    ),
    (PAIR, [("spec.heartbeat.autoFailback", "on")], "spec.heartbeat.autoFailback", 'values: "Disabled", "Enabled"'),
    (
        PAIR,
        [("spec.heartbeat.pingAddresses.0", "10.10.25.300")],
        "spec.heartbeat.pingAddresses[0]",
        "must be the IPv4 address of one machine, such as 10.10.25.254",
    ),
    (
        PAIR,
        [("spec.heartbeat.pingAddresses.1", "10.10.25.254")],
        "spec.heartbeat.pingAddresses",
        "an address is named twice",
    ),
    (
        PAIR,
        [("spec.heartbeat.pingAddresses.0", "10.10.25.136")],
        "spec.heartbeat.pingAddresses",
        "none of the pair's own",
    ),
    (
        PAIR,
        [("spec.heartbeat.pingAddresses.0", "10.10.25.132")],
        "spec.heartbeat.pingAddresses",
        "none of the pair's own",
    ),
    # the floating address
    (PAIR, [("spec.virtualIP.bond", "bond9")], "spec.virtualIP.bond", "name of a bond that spec.bonds has"),
    (PAIR, [(VIP, "10.10.26.136/24")], FIELD_VIP, MESSAGE_VIP_NETWORK),
    (PAIR, [(VIP, "10.10.25.136/32")], FIELD_VIP, MESSAGE_VIP_NETWORK),
    (PAIR, [(VIP, "10.10.25.132/24")], FIELD_VIP, "is a node's own address; the floating one must be free"),
    (PAIR, [(VIP, "10.10.25.136")], FIELD_VIP, "must be an IPv4 address and prefix length, such as 10.10.25.136/24"),
    (PAIR, [(VIP, "10.10.25.0/24")], FIELD_VIP, "is the address of the network itself (all host bits are zero)"),
    # targets
    (PAIR, [("spec.targets", [])], "spec.targets", "should have at least 1 items"),
    (PAIR, [("spec.targets.0.iqn", "iqn.2011-03.org.Weithenn:x")], "spec.targets[0].iqn", MESSAGE_IQN),
    (PAIR, [("spec.targets.0.iqn", "iqn.2011-13.org.weithenn")], "spec.targets[0].iqn", MESSAGE_IQN),
    (PAIR, [("spec.targets.0.iqn", "iqn.2011-03.org.weithenn:a_b")], "spec.targets[0].iqn", MESSAGE_IQN),
    (PAIR, [("spec.targets.0.iqn", "eui.02004567A425678D")], "spec.targets[0].iqn", MESSAGE_IQN),
    (PAIR, [("spec.targets.0.iqn", "iqn.2011-03.org:" + "a" * 208)], "spec.targets[0].iqn", "more than 223 bytes"),
    (
        PAIR,
        [("spec.targets.1", {"name": "second", "iqn": "iqn.2011-03.org.weithenn:iscsi.storage"})],
        "spec.targets",
        "two targets have the same iqn",
    ),
    # LUN
    (LUN, [("spec.size", "1Gib")], "spec.size", "must be a whole multiple of 4Ki (4096 bytes), such as 9Gi or 500Mi"),
    (LUN, [("spec.size", "1.5Gi")], "spec.size", "(and 1536Mi for 1.5Gi)"),
    (LUN, [("spec.size", "5000k")], "spec.size", "must be a whole multiple of 4Ki"),
    (LUN, [("spec.size", "999999999999999P")], "spec.size", "must be a whole multiple of 4Ki"),
    (LUN, [("spec.size", "64Ki")], "spec.size", "must be at least 1Mi"),
    (LUN, [("spec.size", 67108864)], "spec.size", 'must be of type string: "integer"'),
    (LUN, [("spec.number", 0)], "spec.number", "greater than or equal to 1"),
    (LUN, [("spec.number", 256)], "spec.number", "less than or equal to 255"),
    (LUN, [("spec.pairRef", ...)], "spec.pairRef", "Required value"),
    (LUN, [("spec.writePolicy", "Fast")], "spec.writePolicy", 'values: "WriteThrough", "WriteBack"'),
    # ACL
    (ACL, [("spec.addresses", [])], "spec.addresses", "should have at least 1 items"),
    (ACL, [("spec.addresses.0", "ALL")], FIELD_ACL, MESSAGE_ACL),
    (ACL, [("spec.addresses.0", "fd00::/64")], FIELD_ACL, MESSAGE_ACL),
    (ACL, [("spec.addresses.0", "10.10.25.0/33")], FIELD_ACL, MESSAGE_ACL),
    (ACL, [("spec.addresses.0", "0.0.0.0/0")], FIELD_ACL, "would admit everybody; name the initiators' networks"),
    (ACL, [("spec.addresses.0", "10.10.25.140/24")], FIELD_ACL, "has host bits set and would match nobody"),
    (ACL, [("spec.addresses.1", "10.10.25.0/24")], "spec.addresses[1]", "Duplicate value"),
    # StorageNode
    (SNODE, [("spec.replication.seed", "node3")], "spec.replication.seed", "must be one of replication.hosts"),
    (SNODE, [("spec.heartbeat.preferred", "node3")], "spec.heartbeat.preferred", "must be one of replication.hosts"),
    (
        SNODE,
        [("spec.heartbeat.deadtimeSeconds", 5), ("spec.heartbeat.keepaliveSeconds", 2)],
        "spec.heartbeat.deadtimeSeconds",
        "must be at least three times keepaliveSeconds",
    ),
    (SNODE, [("spec.filesystem.mountPath", "/storage/..")], "spec.filesystem.mountPath", "should match"),
    # what goes into an argument list and into lines of words on the host
    (SNODE, [("spec.switchover", {**NODE_MOVE, "uid": "a b"})], "spec.switchover.uid", "should match"),
    (SNODE, [("spec.switchover", {**NODE_MOVE, "name": "to-node2"})], "spec.switchover.name", "should match"),
    (SNODE, [("spec.switchover", {**NODE_MOVE, "to": "-n"})], "spec.switchover.to", "should match"),
    (SNODE, [("spec.switchover", {**NODE_MOVE, "notAfter": "soon"})], "spec.switchover.notAfter", "should match"),
    # the history
    (PAIR, [("spec.failoverHistoryLimit", 0)], "spec.failoverHistoryLimit", "greater than or equal to 1"),
    (PAIR, [("spec.failoverHistoryLimit", 1001)], "spec.failoverHistoryLimit", "less than or equal to 1000"),
    (RECORD, [("spec.cause", "Chance")], "spec.cause", '"ServiceNetworkLost", "HeartbeatStopped", "ResourceFailed"'),
    (RECORD, [("spec.request", "to-node2")], "spec.request", "should match"),
    (RECORD, [("spec.pause.milliseconds", -1)], "spec.pause.milliseconds", "greater than or equal to 0"),
    # Switchover
    (MOVE, [("metadata.name", "to.node2")], "metadata.name", "should match"),
    (MOVE, [("metadata.name", "a" * 64)], "metadata.name", "Too long: may not be more than 63 bytes"),
    (MOVE, [("spec.pairRef", ...)], "spec.pairRef", "Required value"),
    (MOVE, [("spec.to", ...)], "spec.to", "Required value"),
    (MOVE, [("spec.to", "")], "spec.to", "should be at least 1 chars long"),
    (MOVE, [("spec.to", "Node2")], "spec.to", "should match"),
    (MOVE, [("spec.from", "node2")], "spec.from", "is the node that the service shall move to"),
    (MOVE, [("spec.notAfter", "tomorrow")], "spec.notAfter", "should match"),
    (MOVE, [("spec.notAfter", "2026-02-30T12:00:00Z")], "spec.notAfter", "must be of type date-time"),
    (MOVE, [("spec.notAfter", "2026-02-03 12:00:00Z")], "spec.notAfter", "should match"),
    (MOVE, [("spec.reason", "a" * 257)], "spec.reason", "may not be more than 256 bytes"),
]

# what no rule can read: refused too, and named, in CEL's words
UNREADABLE: list[tuple[str, list[Change], str, str]] = [
    (MOVE, [("spec.notAfter", [])], "spec.notAfter", "must be one RFC 3339 time"),
    (MOVE, [("spec.notAfter", ["2126-01-31T22:30:00Z"])], "spec.notAfter", "must be one RFC 3339 time"),
]

ACCEPTED: list[tuple[str, list[Change]]] = [
    *((kind, []) for kind in DOCUMENTS),
    (PAIR, [("metadata.name", "a" * 63)]),
    (PAIR, [("spec.filesystem", ...)]),
    (PAIR, [("spec.filesystem.mountPath", "/srv/storage")]),
    (PAIR, [("spec.filesystem.type", "xfs")]),
    (PAIR, [("spec.heartbeat.pingAddresses", ...)]),
    (PAIR, [("spec.heartbeat.deadtimeSeconds", 6), ("spec.heartbeat.keepaliveSeconds", 2)]),
    (PAIR, [("spec.heartbeat.autoFailback", "Enabled")]),
    (PAIR, [("spec.bonds.2", BOND2)]),
    (PAIR, [("spec.bonds.0.members", ["enP2p1s0f0", "eth0.10"])]),
    (PAIR, [("spec.nodes.0.disk", "/dev/disk/by-id/ata-WDC_WD10-1.2:3+4")]),
    (PAIR, [("spec.nodes.0.name", "node1.example.org")]),
    (PAIR, [(f"{IPS}.1.address", "192.168.1.0/31"), ("spec.nodes.1.addresses.1.address", "192.168.1.1/31")]),
    (PAIR, [("spec.targets.1", {"name": "second", "iqn": "iqn.2001-04.com.example"})]),
    (PAIR, [("spec.replication.resyncRate", "4Gi"), ("spec.replication.port", 7789)]),
    (LUN, [("spec.size", "1Mi"), ("spec.number", 255)]),
    (LUN, [("spec.size", "1536Mi"), ("spec.deletionPolicy", "Delete"), ("spec.writePolicy", "WriteBack")]),
    (LUN, [("spec.size", "4096k"), ("spec.number", 1), ("spec.target", "second")]),
    (LUN, [("spec.size", "67108864"), ("metadata.name", "0" * 63)]),
    (ACL, [("spec.addresses", ["10.10.26.7", "128.0.0.0/1", "10.10.26.8/32"])]),
    (SNODE, [("metadata.name", "node1.example.org"), ("spec.service", "Run")]),
    (SNODE, [("spec.switchover", NODE_MOVE)]),
    (SNODE, [("spec.switchover", {**NODE_MOVE, "notAfter": "2026-01-31T22:30:00Z"})]),
    (PAIR, [("spec.failoverHistoryLimit", 1)]),
    (PAIR, [("spec.failoverHistoryLimit", 1000)]),
    (RECORD, [("spec.cause", "OperatorError"), ("spec.request", "default/to-node2"), ("spec.pause", {})]),
    (RECORD, [("spec.phases.0", {"name": "asked", "milliseconds": -1200})]),
    (MOVE, [("spec.from", ...), ("spec.notAfter", ...), ("spec.reason", ...)]),
    (MOVE, [("spec.notAfter", "2026-01-31T22:30:00.123456+01:00"), ("spec.to", "node2.example.org")]),
]

# ------------------------------------------------------------------------------------------ changes of what is there

SECOND = {"name": "second", "iqn": "iqn.2001-04.com.example:second"}
FIXED: list[tuple[str, list[Change], list[Change], str, str]] = [
    # kind, changes of the sample at creation, the change that is refused, the field, the message
    (PAIR, [], [("spec.nodes.0.name", "node9")], "spec.nodes", "replacing a node or moving its addresses comes later"),
    (PAIR, [], [("spec.nodes.0.disk", "/dev/vdc")], "spec.nodes", "nodes are immutable in this version"),
    (PAIR, [], [(f"{IPS}.0.address", "10.10.25.137/24")], "spec.nodes", "nodes are immutable in this version"),
    (
        PAIR,
        [],
        [("spec.nodes", SAMPLES[PAIR]["spec"]["nodes"][::-1])],
        "spec.nodes",
        "(names, order, disks, addresses)",
    ),
    (
        PAIR,
        [],
        [("spec.bonds.0.members", ["eth0"])],
        "spec.bonds",
        "changing the network of a running pair comes later",
    ),
    (PAIR, [], [("spec.bonds.0.members", ["eth1", "eth0"])], "spec.bonds", "bonds are immutable in this version"),
    (PAIR, [], [("spec.bonds.2", BOND2)], "spec.bonds", "bonds are immutable in this version"),
    (PAIR, [], [("spec.bonds.0.miimonMilliseconds", 50)], "spec.bonds", "bonds are immutable in this version"),
    (PAIR, [], [("spec.replication.port", 7789)], "spec.replication", "replication of a running pair comes later"),
    (PAIR, [("spec.replication.port", 7789)], [("spec.replication.port", ...)], "spec.replication", "are immutable"),
    (
        PAIR,
        [],
        [("spec.replication.bond", "bond0")],
        "spec.replication",
        "replication.port are immutable in this version",
    ),
    (PAIR, [], [("spec.filesystem.type", "xfs")], "spec.filesystem.type", "another type would mean to format the disk"),
    (
        PAIR,
        [],
        [("spec.filesystem.mountPath", "/data")],
        "spec.filesystem.mountPath",
        "the mount of a running pair comes",
    ),
    (PAIR, [("spec.filesystem.type", "xfs")], [("spec.filesystem", ...)], "spec.filesystem.type", "is immutable"),
    (PAIR, [], [("spec.heartbeat.deadtimeSeconds", 9)], "spec.heartbeat", "changing it on a running pair comes later"),
    (
        PAIR,
        [],
        [("spec.heartbeat.links", ["bond0", "bond1"])],
        "spec.heartbeat",
        "heartbeat is immutable in this version",
    ),
    (PAIR, [], [("spec.heartbeat.pingAddresses", ...)], "spec.heartbeat", "heartbeat is immutable in this version"),
    (
        PAIR,
        [],
        [("spec.heartbeat.autoFailback", "Enabled")],
        "spec.heartbeat",
        "heartbeat is immutable in this version",
    ),
    (
        PAIR,
        [],
        [(VIP, "10.10.25.137/24")],
        "spec.virtualIP",
        "every initiator's configuration names it; moving it comes",
    ),
    (PAIR, [], [("spec.targets.0.name", "other")], "spec.targets", "removing a target comes later"),
    (PAIR, [("spec.targets.1", SECOND)], [("spec.targets.0", ...)], "spec.targets", "can't be removed or renamed"),
    (PAIR, [], [("spec.targets.0.iqn", SECOND["iqn"])], "spec.targets", "a target's iqn is immutable"),
    (LUN, [], [("spec.pairRef.name", "other")], "spec.pairRef", "the data lies on that pair's disks"),
    (LUN, [], [("spec.target", "second")], "spec.target", "initiators know the LUN by its target"),
    (LUN, [("spec.target", "second")], [("spec.target", ...)], "spec.target", "initiators know the LUN by its target"),
    (LUN, [("spec.number", 7)], [("spec.number", 8)], "spec.number", "is immutable once set"),
    (LUN, [("spec.number", 7)], [("spec.number", ...)], "spec.number", "is immutable once set"),
    (LUN, [], [("spec.number", 7)], "spec.number", "or later to the number that the LUN already has (status.number)"),
    (LUN, [], [("spec.size", "128Mi")], "spec.size", "growing a LUN comes later, shrinking never"),
    (LUN, [], [("spec.size", "32Mi")], "spec.size", "growing a LUN comes later, shrinking never"),
    (LUN, [], [("spec.writePolicy", "WriteBack")], "spec.writePolicy", "changing it on a served LUN comes later"),
    (ACL, [], [("spec.pairRef.name", "other")], "spec.pairRef", "create one for the other pair"),
    (ACL, [], [("spec.target", "second")], "spec.target", "create one for the other target"),
    (RECORD, [], [("spec.milliseconds", 1)], "spec", "is a record of what happened and can't be changed"),
    (MOVE, [], [("spec.to", "node3")], "spec", "is one request and can't be changed; create another one"),
    (MOVE, [], [("spec.from", ...)], "spec", "is one request and can't be changed; create another one"),
    (MOVE, [("spec.notAfter", ...)], [("spec.notAfter", "2026-01-31T22:30:00Z")], "spec", "can't be changed"),
    (SNODE, [("spec.service", "Run")], [("spec.service", "Prepare")], "spec.service", "never goes back to Prepare"),
    (SNODE, [("spec.service", "Run")], [("spec.service", ...)], "spec.service", "never goes back to Prepare"),
    (
        SNODE,
        [("spec.service", "Run")],
        [("spec.service", "Prepare"), ("spec.pairRef.uid", "another")],
        "spec.service",
        "never goes back to Prepare",
    ),
    (SNODE, [("spec.service", "Stopped")], [("spec.service", "Run")], "spec.service", "a teardown goes on to its end"),
    (SNODE, [("spec.service", "Removed")], [("spec.service", "Stopped")], "spec.service", "goes on to its end"),
    (
        SNODE,
        [("spec.service", "Run")],
        [("spec.service", "Stopped"), ("spec.pairRef.uid", "another")],
        "spec.service",
        "must name the very pair that the document was for",
    ),
]

FREE: list[tuple[str, list[Change], list[Change]]] = [
    *((kind, [], [("metadata.labels", {"a": "b"})]) for kind in DOCUMENTS),
    (PAIR, [], [("spec.replication.resyncRate", "200Mi")]),
    (PAIR, [], [("spec.targets.1", SECOND)]),
    (PAIR, [], [("spec.filesystem", ...)]),
    (PAIR, [], [("spec.bonds", SAMPLES[PAIR]["spec"]["bonds"][::-1])]),
    (LUN, [], [("spec.deletionPolicy", "Delete")]),
    (LUN, [], [("spec.size", "65536Ki")]),
    (LUN, [("spec.number", 7)], [("spec.deletionPolicy", "Delete")]),
    (ACL, [], [("spec.addresses", ["10.10.26.7"])]),
    (PAIR, [], [("spec.failoverHistoryLimit", 3)]),
    (SNODE, [("spec.switchover", NODE_MOVE)], [("spec.switchover", ...)]),
    (SNODE, [], [("spec.service", "Run")]),
    (SNODE, [], [("spec.service", "Removed")]),
    (SNODE, [("spec.service", "Run")], [("spec.service", "Stopped")]),
    (SNODE, [("spec.service", "Stopped")], [("spec.service", "Removed")]),
    (SNODE, [("spec.service", "Removed")], [("spec.service", "Prepare"), ("spec.pairRef.uid", "another")]),
    (PAIR, [], [("spec.deletionPolicy", "Teardown")]),
    (SNODE, [], [("spec.luns", ...), ("spec.targets.0.initiators.0.state", "Absent")]),
]
