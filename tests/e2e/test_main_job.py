"""The main job and its promises, from `kubectl apply` to a power cut, on the whole stack as users run it."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from lab import absence, drill
from lab.audit import Write
from lab.drill import NAMESPACE
from lab.guest import Guest
from lab.initiator import Initiator
from lab.pair import SAMPLE, Pair
from lab.stack import AUDIT_SECONDS, Stack
from lab.waiting import SOON, WaitTimeout, wait_for

ACTION_LOG = "/var/log/storagepair/actions.log"
# the operator audits its view every AUDIT_SECONDS and the agents pause for 15 at most: both are seen at work
QUIET_SECONDS = AUDIT_SECONDS + 15


def test_an_applied_pair_serves_its_lun_to_an_initiator_that_an_acl_admits(frozen: Stack) -> None:
    pair, initiator = _pair(frozen), Initiator(frozen.lab.initiator)
    device = drill.log_in(initiator)
    content = b"through the floating IP".ljust(4096, b".")
    initiator.guest.ssh(["dd", f"of={device}", "bs=4096", "oflag=direct", "status=none"], stdin=content)
    back = initiator.guest.ssh(["dd", f"if={device}", "bs=4096", "count=1", "iflag=direct", "status=none"]).stdout
    assert back.encode() == content
    assert pair.condition("Ready", "lun", "datastore1")["status"] == "True"
    assert pair.condition("Ready", "initiatoracl", "esx")["status"] == "True"
    line = frozen.kubectl("get", "storagepairs", "-n", NAMESPACE, "--no-headers").split()
    assert line[:4] == ["vmstore", "True", pair.active, drill.other(pair, pair.active)]
    lun = pair.get("lun", "datastore1")["status"]
    described = initiator.guest.ssh(["cat", f"/sys/block/{device.removeprefix('/dev/')}/device/vpd_pg80"]).stdout
    assert lun["serial"] in described, "the serial in the status is the one that the initiator sees"


def test_an_initiator_without_an_acl_is_admitted_nowhere(frozen: Stack) -> None:
    stranger = {
        "apiVersion": "storagepair.dev/v1alpha1",
        "kind": "InitiatorACL",
        "metadata": {"name": "esx"},
        "spec": {"pairRef": {"name": "vmstore"}, "addresses": ["10.10.25.7"]},
    }
    initiator = Initiator(frozen.lab.initiator)
    drill.log_in(initiator)
    initiator.logout()
    frozen.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(stranger))
    wait_for(lambda: drill.IQN not in initiator.discover(drill.PORTAL), "the ACL to take effect", SOON, interval=1)


def test_a_power_cut_of_the_active_node_loses_no_acknowledged_write_three_times_in_a_row(ready: Stack) -> None:
    pair, initiator = _pair(ready), Initiator(ready.lab.initiator)
    moves = []
    # each time another part of Kubernetes is away, too: the hosts do it alone, and tell of it when that is back. From
    # the second cut on the agent of the machine that came back may not be there yet, either
    for number, part in enumerate(absence.PARTS, start=1):
        active, taker = sorted(ready.lab.nodes, key=drill.serves, reverse=True)
        with absence.without(ready, part):
            known = len(pair.failovers())
            outcome = drill.run(initiator, active.power_cut, taker, name=f"cut{number}")
            assert len(pair.failovers()) == known, "nobody could tell of it yet"
        print(f"power cut {number}: gap {outcome.gap_seconds:.1f} s, {outcome.result.acked} acknowledged")
        assert outcome.result.lost == 0, outcome.result.document
        assert outcome.result.acked > 0
        moves.append(("NodeLost", active.name, taker.name))
        active.power_up()
        active.wait_ssh()
        drill.wait_mirrored(taker)
        assert (drill.serves(taker), drill.serves(active)) == (True, False), "no automatic failback"
    records = pair.wait_failovers(len(moves))
    assert [(record["cause"], record["from"], record["to"]) for record in records] == moves, "each exactly once"
    ready.wait_agents()
    pair.wait_ready()
    assert pair.active == moves[-1][-1]
    assert len(pair.failovers()) == _moves_told(ready) == len(absence.PARTS) == 3


def test_the_same_file_again_and_restarts_of_ours_change_nothing(ready: Stack) -> None:
    pair = _pair(ready)
    before = _actions(ready), _versions(ready)
    mark = ready.plane.audit.mark()
    pair.apply()
    ready.restart_operator()
    ready.restart_agents()
    _watch_quietly(ready, mark)
    assert (_actions(ready), _versions(ready)) == before
    assert _our_writes(ready, mark) == []
    assert drill.serves(ready.lab.machines[pair.active])


def test_a_host_with_data_on_the_named_disk_is_not_touched(bare: Stack) -> None:
    node = bare.lab.node2
    node.ssh(["mkfs.ext4", "-q", "-L", "precious", "/dev/vdb"])
    digest = _digest(node)
    _pair(bare).apply()
    message = _wait_refused(bare, "node2", "Replication")
    assert "/dev/vdb" in message
    assert "node2" in message
    assert "ext4" in message
    assert _digest(node) == digest
    assert _pair(bare).condition("Ready")["status"] != "True"


def test_a_missing_package_is_named_and_the_host_stays_as_it_is(bare: Stack) -> None:
    node = bare.lab.node2
    node.ssh(["mv", "/usr/sbin/tgtadm", "/usr/sbin/tgtadm.away"])
    _pair(bare).apply()
    message = _wait_refused(bare, "node2", "Preflight")
    assert "tgtadm" in message
    assert "apt-get install tgt" in message
    assert _untouched(node)


def test_a_wrong_interface_name_is_named_and_the_host_stays_as_it_is(bare: Stack) -> None:
    documents = list(yaml.safe_load_all(SAMPLE.read_text()))
    documents[0]["spec"]["bonds"][0]["members"] = ["eth0", "enp9s9"]
    bare.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump_all(documents))
    for node in bare.lab.nodes:
        message = _wait_refused(bare, node.name, "Preflight")
        assert "enp9s9" in message
        assert node.name in message
        assert _untouched(node)


def test_a_node_in_two_pairs_serves_the_first_and_refuses_the_second(frozen: Stack) -> None:
    documents = list(yaml.safe_load_all(SAMPLE.read_text()))
    second = documents[0]
    second["metadata"]["name"] = "newcomer"
    before = _actions(frozen)
    frozen.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(second))
    newcomer = _pair(frozen, "newcomer")
    newcomer.wait_condition("Accepted", "False", seconds=SOON)
    message = newcomer.condition("Accepted")["message"]
    assert "vmstore" in message
    assert "node1" in message
    assert _actions(frozen) == before
    assert _pair(frozen).condition("Ready")["status"] == "True"


@pytest.mark.parametrize(
    "loss",
    [
        "objects gone unseen",
        *(pytest.param(loss, marks=pytest.mark.drill) for loss in ("deleted CRDs", "deleted namespace")),
    ],
)
def test_a_host_goes_on_serving_all_that_it_served_after(frozen: Stack, loss: str) -> None:
    before = _actions(frozen), _exports(frozen)
    if loss == "objects gone unseen":
        frozen.stop_operator()
        for kind in ("lun", "initiatoracl"):
            names = frozen.kubectl("get", kind, "-n", NAMESPACE, "-o", "name").split()
            free = json.dumps({"metadata": {"finalizers": None}})
            for name in names:
                frozen.kubectl("patch", name, "-n", NAMESPACE, "--type=merge", "-p", free)
            frozen.kubectl("delete", kind, "--all", "-n", NAMESPACE)
        frozen.kubectl("delete", "storagepair", "--all", "-n", NAMESPACE)
        frozen.start_operator()  # with an empty cache
    elif loss == "deleted CRDs":
        frozen.kubectl("delete", "crd", "luns.storagepair.dev", "initiatoracls.storagepair.dev", "--timeout=120s")
    else:
        frozen.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")
    nodes_mark = _storage_node_versions(frozen)
    _stay_for(QUIET_SECONDS)
    assert (_actions(frozen), _exports(frozen)) == before
    assert _storage_node_versions(frozen).keys() == nodes_mark.keys(), "StorageNodes stay"
    assert sum(drill.serves(node) for node in frozen.lab.nodes) == 1


def _pair(stack: Stack, name: str = "vmstore") -> Pair:
    return Pair(stack, name, NAMESPACE)


def _moves_told(stack: Stack) -> int:
    """Events of the pair that tell of a move."""
    events = json.loads(stack.kubectl("get", "events.v1.events.k8s.io", "-n", NAMESPACE, "-o", "json"))["items"]
    return sum(1 for event in events if event["reason"] in ("Failover", "Switchover"))


def _actions(stack: Stack) -> dict[str, int]:
    """How many lines each host's action log has: one for every change that an agent made."""
    return {node.name: _lines(node) for node in stack.lab.nodes}


def _lines(node: Guest) -> int:
    done = node.ssh(["wc", "-l", ACTION_LOG], check=False)
    return int(done.stdout.split()[0]) if done.returncode == 0 else 0


def _untouched(node: Guest) -> bool:
    """No change by an agent, no file of ours, no bond."""
    bonds = node.ssh(["ip", "-o", "link", "show", "type", "bond"]).stdout.strip()
    return (
        _lines(node) == 0 and bonds == "" and node.ssh(["test", "-e", "/etc/storagepair"], check=False).returncode != 0
    )


def _exports(stack: Stack) -> str:
    """What the active node's tgtd exports."""
    active = next(node for node in stack.lab.nodes if drill.serves(node))
    return active.ssh(["tgtadm", "--lld", "iscsi", "--op", "show", "--mode", "target"]).stdout


def _versions(stack: Stack) -> dict[str, str]:
    """The resource version of every object of ours: it changes with every write that changes something."""
    kinds = "storagepairs,luns,initiatoracls,storagenodes,failovers"
    items = json.loads(stack.kubectl("get", kinds, "-A", "-o", "json"))["items"]
    return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}


def _our_writes(stack: Stack, mark: int) -> list[Write]:
    """Writes of the operator's and the agents' service accounts since `mark`, the leader's lease aside."""
    ours = "system:serviceaccount:storagepair-system:"
    return [w for w in stack.plane.audit.writes(mark) if w.user.startswith(ours) and w.resource != "leases"]


def _watch_quietly(stack: Stack, mark: int) -> None:
    """Give every loop of ours the time to do what it should not; ends early when one of them writes."""
    with pytest.raises(WaitTimeout):
        wait_for(lambda: _our_writes(stack, mark), "a write that should not come", QUIET_SECONDS, interval=2)


def _storage_node_versions(stack: Stack) -> dict[str, str]:
    items = json.loads(stack.kubectl("get", "storagenodes", "-o", "json"))["items"]
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}


def _stay_for(seconds: float) -> None:
    """Let every loop of ours come round. What is waited for is that nothing happens: there is no condition for that."""
    time.sleep(seconds)


def _wait_refused(stack: Stack, node: str, condition: str) -> str:
    """Wait until a StorageNode's condition is False for good; its message."""

    def message() -> str:
        done = json.loads(stack.kubectl("get", "storagenodes", "-o", "json"))["items"]
        for item in done:
            for each in item.get("status", {}).get("conditions", []):
                if (item["metadata"]["name"], each["type"], each["status"]) == (node, condition, "False"):
                    return str(each["message"])
        return ""

    return wait_for(message, f"{condition} of {node} to be refused", 120, interval=1)


def _digest(node: Guest) -> str:
    return node.ssh(["sha256sum", "/dev/vdb"]).stdout.split()[0]
