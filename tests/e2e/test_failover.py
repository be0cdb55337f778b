"""Failover, planned and unplanned: what people try before they trust a storage pair. Each under the verifying writer.

docs/failover.md has a row for each of these; a test sees that every row names one of them.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
from lab import absence, drill
from lab.drill import NAMESPACE
from lab.initiator import Initiator
from lab.lab import LabGuest
from lab.pair import Pair
from lab.stack import Stack
from lab.waiting import SOON, wait_for

DONE = ("Succeeded", "Refused", "Failed")
# from the fault to its record: the guardian, the agent's pass and the operator, on an emulated machine
RECORD_SECONDS = 180


class Scene:
    """A Ready pair: who is active, who is standby, and what happens to them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.pair = Pair(stack, namespace=NAMESPACE)
        self.initiator = Initiator(stack.lab.initiator)
        self.active: LabGuest = stack.lab.machines[self.pair.active]
        self.standby: LabGuest = stack.lab.machines[drill.other(self.pair, self.active.name)]

    def moves(self, fault: Callable[[], object], cause: str) -> dict[str, Any]:
        """The fault makes the standby serve, no acknowledged write is lost, and one record names the cause."""
        outcome = drill.run(self.initiator, fault, self.standby)
        assert (outcome.result.lost, outcome.result.errors) == (0, 0)
        (record,) = self.pair.wait_failovers(1, seconds=RECORD_SECONDS)
        print(f"{cause}: gap {outcome.gap_seconds:.1f} s, {record.get('phases')}, pause {record.get('pause')}")
        assert (record["cause"], record["from"], record["to"]) == (cause, self.active.name, self.standby.name)
        assert sum(drill.serves(node) for node in self.stack.lab.nodes if node.is_on()) == 1
        return record

    def stays(
        self, fault: Callable[[], object], until: Callable[[], object], what: str, *, name: str = "drill"
    ) -> drill.Outcome:
        """The fault is dealt with where it happened: the writer goes on, nothing moves, nothing is recorded."""

        def break_and_wait() -> None:
            fault()
            wait_for(until, what, SOON, interval=0.5)

        outcome = drill.run(self.initiator, break_and_wait, self.active, name=name)
        assert (outcome.result.lost, outcome.result.errors) == (0, 0)
        print(f"gap {outcome.gap_seconds:.1f} s")
        assert drill.serves(self.active)
        assert self.pair.failovers() == []
        return outcome

    def standby_command(self) -> None:
        """What a person types on the active node."""
        self.active.ssh(["/usr/share/heartbeat/hb_standby", "all"])

    def clock(self) -> float:
        """The standby's clock: seconds since 1970."""
        return float(self.standby.ssh(["date", "+%s.%N"]).stdout)

    def switchover(self, name: str = "tonight", **spec: str) -> None:
        """`kubectl create` of a Switchover to the standby."""
        document = {
            "apiVersion": "storagepair.dev/v1alpha1",
            "kind": "Switchover",
            "metadata": {"name": name},
            "spec": {"pairRef": {"name": self.pair.name}, "to": self.standby.name, **spec},
        }
        self.stack.kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(document))

    def outcome_of(self, name: str = "tonight") -> dict[str, Any]:
        """The Switchover's status, once it is over."""
        get = lambda: self.pair.get("switchovers", name).get("status", {})  # noqa: E731
        return wait_for(lambda: get() if get().get("phase") in DONE else None, f"switchover {name}", 180, interval=0.5)

    def condition_of(self, node: LabGuest, type_: str) -> dict[str, Any]:
        """A condition that a node's agent reports."""
        return self.pair.condition(type_, "storagenode", node.name)

    def incidents(self) -> list[dict[str, Any]]:
        """The moves that the hosts tell of and the operator has not yet confirmed."""
        nodes = json.loads(self.stack.kubectl("get", "storagenodes", "-o", "json"))["items"]
        return [incident for node in nodes for incident in node.get("status", {}).get("incidents", [])]

    def told(self, reason: str) -> list[str]:
        """The notes of the pair's events with this reason."""
        events = json.loads(self.stack.kubectl("get", "events.v1.events.k8s.io", "-n", NAMESPACE, "-o", "json"))
        return [each.get("note", "") for each in events["items"] if each["reason"] == reason]


@pytest.fixture()
def scene(frozen: Stack) -> Scene:
    return Scene(frozen)


# --- planned ------------------------------------------------------------------------------------------------------


def test_a_switchover_moves_the_service_once_and_tells_the_pause_that_initiators_felt(scene: Scene) -> None:
    record = scene.moves(scene.switchover, "Planned")
    status = scene.outcome_of()
    assert (status["phase"], record["request"]) == ("Succeeded", f"{NAMESPACE}/tonight")
    names = [phase["name"] for phase in record["phases"]]
    assert [
        n for n in names if n in ("asked", "silent", "promoted", "mounted", "targets", "vip", "open", "first-login")
    ]
    order = ["asked", "silent", "targets-off", "promoted", "mounted", "targets", "vip", "open", "first-login"]
    assert [name for name in names if name in order] == order
    assert record["pause"]["lastCompletedTime"] < record["pause"]["firstCompletedTime"]
    assert record["pause"]["milliseconds"] > 0
    # the same manifest again, as a restore would bring it into a namespace without any record: nothing moves
    scene.stack.kubectl("delete", "switchover", "tonight", "-n", NAMESPACE)
    wait_for(lambda: not scene.incidents(), "the host to leave the recorded move out of its report", SOON, interval=0.5)
    scene.stack.kubectl("delete", "failovers", "--all", "-n", NAMESPACE)
    before = scene.active
    wait_for(lambda: scene.pair.active == scene.standby.name, "the status to follow", SOON, interval=0.5)
    back = Scene(scene.stack)
    assert back.standby.name == before.name
    back.switchover()  # of the same name, to the other side
    status = back.outcome_of()
    assert (status["phase"], status["reason"]) == ("Refused", "AlreadyCarriedOut"), status
    assert drill.serves(back.active)


@pytest.mark.drill
def test_a_switchover_is_refused_when_the_standby_could_not_serve(scene: Scene) -> None:
    for nic in ("eth2", "eth3"):  # the replication network
        scene.standby.unplug(nic)
    wait_for(lambda: scene.condition_of(scene.active, "Replication").get("status") == "False", "the report", SOON)
    scene.switchover()
    status = scene.outcome_of()
    assert status["phase"] == "Refused"
    assert scene.pair.name in status["message"] or scene.standby.name in status["message"]
    assert drill.serves(scene.active)
    assert scene.pair.failovers() == []


# --- unplanned ----------------------------------------------------------------------------------------------------


@pytest.mark.drill
def test_a_killed_heartbeat_hands_the_service_over_at_once(scene: Scene) -> None:
    scene.moves(lambda: scene.active.ssh("kill -KILL $(cat /run/heartbeat.pid)"), "HeartbeatStopped")


@pytest.mark.drill
def test_a_restart_of_heartbeat_on_the_active_node_moves_the_service_and_names_the_cause(scene: Scene) -> None:
    scene.moves(lambda: scene.active.ssh(["systemctl", "restart", "heartbeat"], timeout=180), "HeartbeatStopped")


@pytest.mark.drill
def test_the_loss_of_the_service_network_moves_the_service_to_the_node_that_has_it(scene: Scene) -> None:
    def both_cables() -> None:
        for nic in ("eth0", "eth1"):
            scene.active.unplug(nic)

    scene.moves(both_cables, "ServiceNetworkLost")


@pytest.mark.drill
def test_a_service_that_a_person_stopped_by_hand_is_served_by_the_other_node(scene: Scene) -> None:
    stop = ["/etc/ha.d/resource.d/storagepair", "stop"]
    scene.moves(lambda: scene.active.ssh(stop), "OperatorError")


@pytest.mark.drill
def test_a_tgtd_that_can_not_run_any_more_moves_the_service(scene: Scene) -> None:
    def broken() -> None:
        scene.active.ssh(["mv", "/usr/sbin/tgtd", "/usr/sbin/tgtd.away"])
        scene.active.ssh("kill -KILL $(pgrep -x tgtd)")

    scene.moves(broken, "ResourceFailed")


@pytest.mark.drill
def test_a_full_file_system_stops_neither_writes_nor_a_switchover(scene: Scene) -> None:
    # everything that can be had, to the last block
    for size in ("64k", "1k"):
        scene.active.ssh(f"dd if=/dev/zero of=/storage/filler.{size} bs={size} status=none; sync", check=False)
    record = scene.moves(scene.switchover, "Planned")
    assert record["request"] == f"{NAMESPACE}/tonight"
    assert scene.outcome_of()["phase"] == "Succeeded"


# --- no failover --------------------------------------------------------------------------------------------------


@pytest.mark.drill
def test_a_killed_tgtd_gets_its_targets_back_without_agent_and_without_failover(scene: Scene) -> None:
    absence.stop_agents(scene.stack)
    pid = scene.active.ssh(["pgrep", "-x", "tgtd"]).stdout.split()[0]

    def whole_again() -> bool:
        shown = scene.active.ssh("pgrep -x tgtd; /etc/ha.d/resource.d/storagepair status", check=False).stdout.split()
        return shown[-1:] == ["running"] and shown[0] != pid

    scene.stays(lambda: scene.active.ssh(["kill", "-KILL", pid]), whole_again, "the targets to be back")
    absence.let_agents_go_on(scene.stack)


@pytest.mark.drill
def test_a_dead_disk_of_the_active_node_leaves_the_service_running_on_the_peers_copy(scene: Scene) -> None:
    gone = "readlink -f /sys/block/vdb/device/.."
    scene.stays(
        lambda: scene.active.ssh(f"echo 1 > $({gone})/remove"),
        lambda: scene.condition_of(scene.active, "Replication").get("reason") == "DiskFailed",
        "the agent to tell of the disk",
    )
    assert "DRBD" in scene.condition_of(scene.active, "Replication")["message"]


@pytest.mark.drill
def test_a_bond_hides_the_loss_of_a_cable_and_of_a_switch(scene: Scene) -> None:
    def whole() -> bool:
        return bool(scene.condition_of(scene.active, "Network").get("status") == "True")

    _hidden_by_the_bond(scene, lambda: scene.active.unplug("eth0"), "a cable")
    scene.active.plug("eth0")
    wait_for(whole, "the agent to tell that the link is back", SOON, interval=0.5)
    _hidden_by_the_bond(scene, lambda: scene.stack.lab.switch_off("svcA"), "a switch")


def _hidden_by_the_bond(scene: Scene, fault: Callable[[], object], loss: str) -> None:
    """The writer goes on, nothing moves, and condition and event name the NIC."""

    def noticed() -> bool:
        condition = scene.condition_of(scene.active, "Network")
        return condition.get("status") == "False" and "eth0" in condition.get("message", "")

    outcome = scene.stays(fault, noticed, f"the agent to tell of {loss}", name=loss.split()[-1])
    assert outcome.gap_seconds < 10

    def told() -> bool:
        reason = scene.condition_of(scene.active, "Network")["reason"]
        return any("eth0" in note for note in scene.told(reason))

    assert wait_for(told, "an event of the link", SOON, interval=1)


@pytest.mark.drill
def test_a_lun_whose_file_is_gone_does_not_take_the_others_with_it(scene: Scene) -> None:
    second = {
        "apiVersion": "storagepair.dev/v1alpha1",
        "kind": "LUN",
        "metadata": {"name": "scratch"},
        "spec": {"pairRef": {"name": scene.pair.name}, "size": "8Mi"},
    }
    scene.stack.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(second))
    ready = lambda: scene.pair.condition("Ready", "lun", "scratch").get("status")  # noqa: E731
    wait_for(lambda: ready() == "True", "the second LUN", SOON, interval=1)
    scene.active.ssh(["rm", "/storage/luns/scratch/disk.img"])
    scene.moves(scene.standby_command, "Planned")
    wait_for(lambda: ready() == "False", "the LUN to say that its file is gone", SOON, interval=1)
    assert "disk.img" in scene.pair.condition("Ready", "lun", "scratch")["message"]
    assert scene.pair.condition("Ready", "lun", "datastore1")["status"] == "True"


# --- Kubernetes away ----------------------------------------------------------------------------------------------


@pytest.mark.drill
def test_a_move_happens_without_any_part_of_kubernetes_and_is_recorded_once_afterwards(scene: Scene) -> None:
    for number, part in enumerate(absence.PARTS, start=1):
        now = Scene(scene.stack)  # the service has moved meanwhile
        with absence.without(now.stack, part):
            began = now.clock()
            outcome = drill.run(now.initiator, now.standby_command, now.standby, name=f"away{number}")
            ended = now.clock()
            assert (outcome.result.lost, outcome.result.errors) == (0, 0)
            assert len(now.pair.failovers()) == number - 1, "nobody could tell of it yet"
        record = now.pair.wait_failovers(number, seconds=RECORD_SECONDS)[-1]
        assert (record["cause"], record["from"], record["to"]) == ("Planned", now.active.name, now.standby.name)
        at = datetime.datetime.fromisoformat(record["endTime"]).timestamp()
        assert began - 1 <= at <= ended + 1, "with its true time, not that of its delivery"
        # the record and the initiator speak of the same pause: the initiator's is longer by its own reconnect only
        assert 0 < record["milliseconds"] / 1000 <= outcome.gap_seconds + 1
        wait_for(lambda now=now: now.pair.active == now.standby.name, "the status to follow", SOON, interval=0.5)
        now.pair.wait_ready()
        assert len(now.pair.failovers()) == number
        assert len(now.told("Failover") + now.told("Switchover")) == number
