"""The end of a pair and its next beginning, a new cluster, an upgrade: on the whole stack, an initiator at work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from lab import drill
from lab.drill import NAMESPACE
from lab.guest import Guest
from lab.initiator import Initiator
from lab.pair import SAMPLE, Pair
from lab.stack import Stack
from lab.waiting import wait_for

# the first of them was not seen to pass on the lab yet
pytestmark = pytest.mark.drill

ACTION_LOG = "/var/log/storagepair/actions.log"
OURS = (
    "/etc/ha.d/ha.cf /etc/ha.d/haresources /etc/ha.d/authkeys /etc/ha.d/resource.d/storagepair "
    "/etc/drbd.d/storagepair.res /etc/storagepair/service.conf /usr/lib/storagepair/guardian"
)
UNITS = ("heartbeat", "tgt", "storagepair-guardian", "storagepair-drbd", "storagepair-port")


def test_a_serving_pair_comes_to_a_new_cluster_and_through_an_upgrade_and_no_write_fails(ready: Stack) -> None:
    """Every object of it is gone, StorageNodes too, and comes back from the same file in the wrong order; then the
    agents roll, one at a time."""
    pair, initiator = Pair(ready, namespace=NAMESPACE), Initiator(ready.lab.initiator)
    active, lun, moves = pair.active, _identity(pair), _journals(ready)
    with _writing(initiator) as writer:
        before = _changes(ready)
        ready.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")
        ready.kubectl("delete", "storagenodes", "--all", "--timeout=60s")
        ready.kubectl("create", "namespace", NAMESPACE)
        for document in reversed(list(yaml.safe_load_all(SAMPLE.read_text()))):
            ready.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(document))
        pair.wait_ready()
        wait_for(lambda: pair.condition("Ready", "lun", "datastore1").get("status") == "True", "the LUN", 60)
        assert {name: changes[before[name] :] for name, changes in _all_changes(ready).items()} == {
            node.name: ["drbd.note-pair"] for node in ready.lab.nodes
        }
        assert _identity(pair) == lun
        _roll_agents(ready)
        pair.wait_ready()
        writer.wait_acked(40)
    assert pair.active == active
    assert _journals(ready) == moves, "no host started or stopped the service"


def test_a_torn_down_pair_leaves_bonds_and_data_and_the_next_of_its_name_has_every_write(ready: Stack) -> None:
    pair, initiator = Pair(ready, namespace=NAMESPACE), Initiator(ready.lab.initiator)
    lun = _identity(pair)
    with _writing(initiator) as writer:
        pass
    policy = json.dumps({"spec": {"deletionPolicy": "Teardown"}})
    ready.kubectl("patch", "storagepair", "vmstore", "-n", NAMESPACE, "--type=merge", "-p", policy)
    # with the session still open: what it is in the middle of is held back silently
    ready.kubectl("delete", "storagepair", "vmstore", "-n", NAMESPACE, "--timeout=240s", timeout=300)
    for node in ready.lab.nodes:
        assert _left(node) == "", f"left on {node.name}"
        assert "UP" in node.ssh(["ip", "-br", "link", "show", "bond0"]).stdout, "the bonds stay"
        assert "drbd" in node.ssh(["wipefs", "--no-act", "/dev/vdb"]).stdout, "and the data"
    documents = list(yaml.safe_load_all(SAMPLE.read_text()))
    ready.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(documents[0]))
    pair.wait_ready()
    wait_for(lambda: pair.condition("Ready", "lun", "datastore1").get("status") == "True", "the LUN", 60)
    assert _identity(pair) == lun
    device = drill.log_in(initiator)
    assert writer.verify_again(device).lost == 0
    assert pair.failovers() == [], "to be set up again is no move"


@contextmanager
def _writing(initiator: Initiator) -> Iterator[Any]:
    """A writer at work; afterwards it has lost nothing and met no error."""
    writer = initiator.start_writer(drill.log_in(initiator), name="lifecycle")
    writer.wait_acked(40)
    yield writer
    result = writer.result()
    assert (result.lost, result.errors) == (0, 0), result.document


def _journals(stack: Stack) -> list[str]:
    """What each host's resource script did with the service, by its own journal; "" where it never did anything."""
    return [node.ssh(["cat", "/var/lib/storagepair/journal.log"], check=False).stdout for node in stack.lab.nodes]


def _identity(pair: Pair) -> tuple[int, str]:
    status = pair.get("lun", "datastore1")["status"]
    return status["number"], status["serial"]


def _roll_agents(stack: Stack) -> None:
    """As after an update of the image: the template changes, and Kubernetes replaces the pods."""
    name = "daemonset/storagepair-node-agent"
    stack.kubectl("rollout", "restart", name, "-n", "storagepair-system")
    most = 0

    def rolled() -> bool:
        nonlocal most
        told = json.loads(stack.kubectl("get", name, "-n", "storagepair-system", "-o", "json"))
        status = told["status"]
        current = status["observedGeneration"] == told["metadata"]["generation"]
        most = max(most, status.get("numberUnavailable", 0))
        return bool(current and status.get("updatedNumberScheduled", 0) == status.get("numberAvailable", 0) == 2)

    wait_for(rolled, "the agents to be replaced", 240, interval=0.5)
    assert most == 1, "one at a time"
    stack.wait_agents()


def _all_changes(stack: Stack) -> dict[str, list[str]]:
    """The names of all changes that the agents ever made on each host."""
    return {node.name: _names(node) for node in stack.lab.nodes}


def _changes(stack: Stack) -> dict[str, int]:
    return {name: len(changes) for name, changes in _all_changes(stack).items()}


def _names(node: Guest) -> list[str]:
    lines = node.ssh(["cat", ACTION_LOG]).stdout.splitlines()
    return [json.loads(line.split(" ", 1)[1])["action"] for line in lines]


def _left(node: Guest) -> str:
    """What of the service is still on a host, in words; "" for nothing."""
    look = (
        f"ls -d {OURS} 2>/dev/null; "
        "nft list tables | grep storagepair; grep ' 0: cs' /proc/drbd; "
        f"systemctl is-active {' '.join(UNITS)} | grep -v -e inactive -e unknown; "
        f"systemctl is-enabled {' '.join(UNITS)} 2>/dev/null | grep -x enabled; "
        "ip -br addr | grep 10.10.25.136; ss -ltn | grep :3260; true"
    )
    return node.ssh(look).stdout.strip()
