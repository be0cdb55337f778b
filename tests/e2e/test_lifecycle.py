"""The end of a pair and its next beginning, a new cluster, an upgrade: on the whole stack, an initiator at work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from docgen.commands import ENDED, ENDING, steps
from lab import drill
from lab.drill import NAMESPACE
from lab.guest import Guest
from lab.initiator import Initiator
from lab.pair import SAMPLE, Pair
from lab.reader import Reader
from lab.stack import Stack
from lab.waiting import SOON, wait_for

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
    active, lun, moves = pair.active, pair.lun_identity(), drill.journals(ready.lab.nodes)
    with _writing(initiator) as writer:
        before = _changes(ready)
        ready.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")
        ready.kubectl("delete", "storagenodes", "--all", "--timeout=60s")
        ready.kubectl("create", "namespace", NAMESPACE)
        for document in reversed(list(yaml.safe_load_all(SAMPLE.read_text()))):
            ready.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(document))
        pair.wait_ready()
        wait_for(lambda: pair.condition("Ready", "lun", "datastore1").get("status") == "True", "the LUN", SOON)
        assert {name: changes[before[name] :] for name, changes in _all_changes(ready).items()} == {
            node.name: ["drbd.note-pair"] for node in ready.lab.nodes
        }
        assert pair.lun_identity() == lun
        _roll_agents(ready)
        pair.wait_ready()
        writer.wait_acked(40)
    assert pair.active == active
    assert drill.journals(ready.lab.nodes) == moves, "no host started or stopped the service"


def test_a_torn_down_pair_leaves_bonds_and_data_and_the_next_of_its_name_has_every_write(ready: Stack) -> None:
    pair, initiator = Pair(ready, namespace=NAMESPACE), Initiator(ready.lab.initiator)
    lun = pair.lun_identity()
    with _writing(initiator) as writer:
        pass
    _to_be_torn_down(ready)
    # with the session still open: what it is in the middle of is held back silently
    ready.kubectl("delete", "storagepair", "vmstore", "-n", NAMESPACE, "--timeout=240s", timeout=300)
    for node in ready.lab.nodes:
        assert _left(node) == "", f"left on {node.name}"
        assert "UP" in node.ssh(["ip", "-br", "link", "show", "bond0"]).stdout, "the bonds stay"
        assert "drbd" in node.ssh(["wipefs", "--no-act", "/dev/vdb"]).stdout, "and the data"
    documents = list(yaml.safe_load_all(SAMPLE.read_text()))
    ready.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(documents[0]))
    pair.wait_ready()
    wait_for(lambda: pair.condition("Ready", "lun", "datastore1").get("status") == "True", "the LUN", SOON)
    assert pair.lun_identity() == lun
    device = drill.log_in(initiator)
    assert writer.verify_again(device).lost == 0
    assert pair.failovers() == [], "to be set up again is no move"


def test_a_pair_is_ended_as_the_page_says_in_every_way_that_it_names(ready: Stack, tmp_path: Path) -> None:
    page = "how-to/uninstall.md"
    tear_down, look, abandon, let_go, clean = steps(page, ENDING, ENDING, ENDING, ENDING, ENDED)
    pair, reader = Pair(ready, namespace=NAMESPACE), Reader(ready, tmp_path)
    with ThreadPoolExecutor(max_workers=1) as another_terminal:
        ending = another_terminal.submit(reader.do, tear_down)
        wait_for(
            lambda: "deletionTimestamp" in pair.get("storagepair", pair.name)["metadata"], "the end to begin", SOON
        )
        reader.do(look)
        ending.result()
    for node in ready.lab.nodes:
        reader.do_on(node, clean)
        assert node.ssh("ip -o link show type bond; wipefs --no-act /dev/vdb").stdout == "", "as if nothing had been"
    pair.apply()
    pair.wait_ready()
    standby = ready.lab.machines[drill.other(pair, pair.active)]
    standby.power_cut()
    _to_be_torn_down(ready)
    end = ["storagepair", pair.name, "-n", NAMESPACE]
    ready.kubectl("delete", *end, "--wait=false")
    waits = lambda: standby.name in pair.condition("Ready").get("message", "")  # noqa: E731
    wait_for(waits, "the pair to say which machine it waits for", 90, interval=0.5)
    reader.do(abandon)
    wait_for(lambda: not ready.kubectl("get", "storagepairs", "-A", "-o", "name"), "the pair to go", 90, interval=0.5)
    ready.kubectl("apply", "-n", NAMESPACE, "-f", str(SAMPLE))
    _to_be_torn_down(ready)
    ready.stop_operator()
    ready.kubectl("delete", *end, "--wait=false")
    assert pair.get("storagepair", pair.name)["metadata"]["finalizers"], "it waits for an operator"
    reader.do(let_go)
    assert ready.kubectl("get", "storagepairs", "-A", "-o", "name") == ""


@contextmanager
def _writing(initiator: Initiator) -> Iterator[Any]:
    """A writer at work; afterwards it has lost nothing and met no error."""
    writer = initiator.start_writer(drill.log_in(initiator), name="lifecycle")
    writer.wait_acked(40)
    yield writer
    result = writer.result()
    assert (result.lost, result.errors) == (0, 0), result.document


def _to_be_torn_down(stack: Stack) -> None:
    """The policy is set, and the operator has seen it."""
    pair = ["storagepair/vmstore", "-n", NAMESPACE]
    stack.kubectl("patch", *pair, "--type=merge", "-p", json.dumps({"spec": {"deletionPolicy": "Teardown"}}))
    stack.kubectl("wait", *pair, "--for=jsonpath={.metadata.finalizers[0]}=storagepair.dev/host", "--timeout=60s")


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
