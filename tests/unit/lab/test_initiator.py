"""Reading what open-iscsi and the kernel say."""

from __future__ import annotations

from lab.initiator import find_disk, parse_targets

IQN = "iqn.2011-03.org.weithenn:iscsi.storage"


def test_targets_of_a_discovery_each_once() -> None:
    output = f"10.10.25.136:3260,1 {IQN}\n192.168.1.131:3260,1 {IQN}\n10.10.25.136:3260,1 iqn.2011-03.x:other\n"
    assert parse_targets(output) == [IQN, "iqn.2011-03.x:other"]


def test_targets_of_the_sessions() -> None:
    assert parse_targets(f"tcp: [1] 10.10.25.136:3260,1 {IQN} (non-flash)\n") == [IQN]
    assert parse_targets("iscsiadm: No active sessions.\n") == []


LISTING = f"""\
{IQN} /sys/class/iscsi_session/session1/device/target2:0:0/2:0:0:1/block/sda
{IQN} /sys/class/iscsi_session/session1/device/target2:0:0/2:0:0:11/block/sdb
iqn.2011-03.x:other /sys/class/iscsi_session/session2/device/target3:0:0/3:0:0:1/block/sdc
"""


def test_a_disk_is_found_by_target_and_number() -> None:
    assert find_disk(LISTING, IQN, 1) == "/dev/sda"
    assert find_disk(LISTING, IQN, 11) == "/dev/sdb"
    assert find_disk(LISTING, "iqn.2011-03.x:other", 1) == "/dev/sdc"
    assert find_disk(LISTING, IQN, 2) is None
