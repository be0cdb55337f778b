"""Switchovers with the operator's process on a real API server; the machines are the API's only (operator_world)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import yaml
from api.operator_agents import Agents
from api.operator_world import Operator, Pair, prepare, rest, running
from api.planes import own_plane
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.waiting import SOON, wait_for
from storagepair_crds.views import Incident, Pause
from storagepair_operator import moments


@pytest.fixture(scope="module")
def plane(keeper: Keeper) -> Iterator[ControlPlane]:
    """An API server of their own: the operator would act on the other tests' objects too."""
    with own_plane(keeper, "switchover") as plane:
        prepare(plane)
        yield plane


@pytest.fixture
def pair(plane: ControlPlane) -> Iterator[Pair]:
    """A namespace and two machines of the test's own."""
    pair = Pair(plane, f"so-{secrets.token_hex(3)}")
    plane.client().post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    yield pair
    pair.forget()


@pytest.fixture
def operator(plane: ControlPlane) -> Iterator[Operator]:
    with running(plane) as operator:
        yield operator


def ask(pair: Pair, to: str, **spec: Any) -> str:
    """Create a Switchover as a runbook does; its name."""
    document = {
        "apiVersion": "storagepair.dev/v1alpha1",
        "kind": "Switchover",
        "metadata": {"generateName": "move-"},
        "spec": {"pairRef": {"name": "vmstore"}, "to": to, **spec},
    }
    made = pair.kubectl("create", "--filename=-", "--output=name", stdin=yaml.safe_dump(document))
    return made.strip().partition("/")[2]


def status(pair: Pair, name: str) -> dict[str, Any]:
    found: dict[str, Any] = pair.get("switchovers", name)["status"]
    return found


def wait_phase(pair: Pair, name: str, phase: str, seconds: float = SOON) -> dict[str, Any]:
    wait_for(lambda: status(pair, name)["phase"] == phase, f"Switchover {name} to be {phase}", seconds)
    return status(pair, name)


def told(pair: Pair, kind: str, name: str) -> list[str]:
    events = [event for event in pair.events() if event["action"] == "Switchover"]
    return sorted(e["reason"] for e in events if (e["regarding"]["kind"], e["regarding"]["name"]) == (kind, name))


def test_a_switchover_moves_the_service_once_and_says_so(pair: Pair, operator: Operator) -> None:
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        name = ask(pair, pair.nodes[1], **{"from": pair.nodes[0]}, reason="a new disk")
        done = wait_phase(pair, name, "Succeeded")
        assert (done["reason"], done["message"]) == ("Moved", f"{pair.nodes[1]} serves")
        assert done["startTime"] <= done["completionTime"]
        assert done["observedGeneration"] == 1
        pair.wait("Ready", "True", "switchovers", name)
        assert agents.carried_out == [pair.get("switchovers", name)["metadata"]["uid"]]
        wait_for(lambda: [spec.switchover for spec in pair.specs()] == [None, None], "the request to go", SOON)
        wait_for(lambda: pair.get("storagepairs", "vmstore")["status"].get("active") == pair.nodes[1], "the move", SOON)
        pair.wait("Ready", "True")
        started = ["SwitchoverStarted", "SwitchoverSucceeded"]
        assert told(pair, "Switchover", name) == told(pair, "StoragePair", "vmstore") == started


def test_a_restart_in_the_middle_moves_nothing_twice(pair: Pair, operator: Operator, plane: ControlPlane) -> None:
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        agents.moves = False
        name = ask(pair, pair.nodes[1])
        wait_phase(pair, name, "Running")
        wait_for(lambda: pair.spec().switchover is not None, "the host to be asked", SOON)
        asked = pair.spec().switchover
        operator.crash()
        agents.moves = True
        wait_for(lambda: agents.active == pair.nodes[1], "the move", SOON)
        assert status(pair, name)["phase"] == "Running"
        operator.start()
        wait_phase(pair, name, "Succeeded")
        wait_for(lambda: pair.spec().switchover is None, "the request to go", SOON)
        assert asked is not None
        assert agents.carried_out == [asked.uid]
        rest(pair)
        mark = plane.audit.mark()
        operator.crash()
        operator.start()
        rest(pair)
        assert (pair.written(mark), agents.carried_out) == ([], [asked.uid])


def test_a_crash_between_the_phase_and_the_document_heals(pair: Pair, operator: Operator, plane: ControlPlane) -> None:
    """The phase is on record, and the host was not asked yet."""
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        operator.crash()
        name = ask(pair, pair.nodes[1])
        made = pair.get("switchovers", name)
        now = moments.micro(datetime.now(UTC))
        made["status"] |= {"phase": "Running", "reason": "Running", "startTime": now}
        pair.client.request("PUT", f"{pair.path('switchovers', name)}/status", made)
        operator.start()
        wait_phase(pair, name, "Succeeded")
        assert agents.carried_out == [made["metadata"]["uid"]]


def test_of_two_at_once_one_runs_and_the_younger_is_refused(pair: Pair, operator: Operator) -> None:
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        agents.moves = False
        first = ask(pair, pair.nodes[1])
        wait_phase(pair, first, "Running")
        second = ask(pair, pair.nodes[1])
        refused = wait_phase(pair, second, "Refused")
        assert refused["reason"] == "MoveInProgress"
        assert f"Switchover {first} of StoragePair vmstore is under way" in refused["message"]
        agents.moves = True
        wait_phase(pair, first, "Succeeded")
        assert len(agents.carried_out) == 1
        pair.wait("Stalled", "True", "switchovers", second)


def test_there_and_back_and_there_again(pair: Pair, operator: Operator) -> None:
    """One right after the other, as a runbook does it: no report that is just on its way refuses the next one."""
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        for turn in range(4):
            target = pair.nodes[(turn + 1) % 2]
            wait_phase(pair, ask(pair, target), "Succeeded")
            assert agents.active == target
        assert len(agents.carried_out) == 4


Disturb = Callable[[Pair, Agents], None]


def _alone(pair: Pair, agents: Agents) -> None:
    agents.heard = {"peer": "dead"}


def _disconnected(pair: Pair, agents: Agents) -> None:
    agents.mirror = {"connection": "WFConnection"}


def _resyncing(pair: Pair, agents: Agents) -> None:
    agents.mirror = {"connection": "SyncSource", "peer_disk_state": "Inconsistent"}


def _unplugged(pair: Pair, agents: Agents) -> None:
    agents.down.add((pair.nodes[1], "eth1"))


def _unserved(pair: Pair, agents: Agents) -> None:
    agents.active = "nobody"


def _behind(pair: Pair, agents: Agents) -> None:
    agents.silent.add(pair.nodes[1])
    spare = pair.documents()[1]
    spare["metadata"]["name"] = "another"
    pair.apply(spare)
    wait_for(lambda: len(pair.spec(1).luns) == 2, "the second LUN", SOON)


# what is wrong, of what the request is made, the reason, and what the message names ({0} and {1} are the nodes)
REFUSALS: list[tuple[Disturb | None, dict[str, Any], str, str]] = [
    (None, {"pairRef": {"name": "other"}}, "PairNotFound", "there is no StoragePair"),
    (
        None,
        {"to": "elsewhere"},
        "NodeNotInPair",
        "spec.to: elsewhere is no node of StoragePair vmstore; it has {0} and {1}",
    ),
    (None, {"notAfter": "2026-01-01T00:00:00Z"}, "TooLate", "later than 2026-01-01T00:00:00Z"),
    (_unserved, {}, "NotServing", "no node of StoragePair vmstore serves now"),
    (None, {"to": "{0}", "from": "{1}"}, "NotActive", "spec.from: {1} does not serve, {0} does"),
    (None, {"to": "{0}"}, "AlreadyActive", "spec.to: {0} serves already"),
    (_behind, {}, "Applying", "the node agent on {1} has not carried out the newest document of StorageNode {1}"),
    (_alone, {}, "PeerNotSeen", "Heartbeat on {0} says that {1} is dead"),
    (_disconnected, {}, "NotConnected", "the mirror on {0} is not connected to {1}"),
    (_resyncing, {}, "NotUpToDate", "status.replication.peerDiskState is Inconsistent"),
    (_unplugged, {}, "LinkDown", "eth1 of bond0 on {1} is Down"),
]


@pytest.mark.parametrize(("disturb", "spec", "reason", "message"), REFUSALS, ids=[case[2] for case in REFUSALS])
def test_a_refusal_names_what_is_in_the_way_and_changes_nothing(
    pair: Pair, operator: Operator, disturb: Disturb | None, spec: dict[str, Any], reason: str, message: str
) -> None:
    nodes = pair.nodes
    spec = {key: value.format(*nodes) if isinstance(value, str) else value for key, value in spec.items()}
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        rest(pair)
        before = [pair.node(index)["spec"] for index in (0, 1)]
        if disturb is not None:
            disturb(pair, agents)
            before = [pair.node(index)["spec"] for index in (0, 1)]
            rest(pair)
        name = ask(pair, **{"to": nodes[1], **spec})
        refused = wait_phase(pair, name, "Refused")
        assert refused["reason"] == reason
        assert message.format(*nodes) in refused["message"]
        assert "startTime" not in refused
        wait_for(lambda: told(pair, "Switchover", name) == ["SwitchoverRefused"], "the event", SOON)
        rest(pair)
        assert [pair.node(index)["spec"] for index in (0, 1)] == before
        assert agents.carried_out == []


def test_a_replayed_request_moves_nothing_again(pair: Pair, operator: Operator, plane: ControlPlane) -> None:
    """As after the restore of a namespace: the object is there again, without its status and with another UID."""
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        name = ask(pair, pair.nodes[1])
        wait_phase(pair, name, "Succeeded")
        incident = msgspec.structs.replace(move(pair, "boot1-move1"), request=f"{pair.namespace}/{name}")
        agents.incidents[pair.nodes[1]].append(incident)
        wait_for(lambda: status(pair, name).get("failover") == "vmstore-boot1-move1", "the record's name", SOON)
        wait_for(lambda: agents.incidents[pair.nodes[1]] == [], "the delivery", SOON)
        back = ask(pair, pair.nodes[0])
        wait_phase(pair, back, "Succeeded")
        rest(pair)
        mark = plane.audit.mark()
        document = pair.get("switchovers", name)
        pair.kubectl("label", f"switchover/{name}", "seen=again")
        rest(pair)
        assert pair.written(mark) == [], "what is over is over"
        pair.client.delete(pair.path("switchovers", name))
        restored = {key: document[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": name}}
        pair.client.post(pair.path("switchovers"), restored)
        refused = wait_phase(pair, name, "Refused")
        assert refused["reason"] == "AlreadyCarriedOut"
        assert "Failover vmstore-boot1-move1" in refused["message"]
        assert (agents.active, len(agents.carried_out)) == (pair.nodes[0], 2)


def test_a_host_that_dies_on_the_way_is_spoken_for_by_the_record(pair: Pair, operator: Operator) -> None:
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        agents.moves = False
        name = ask(pair, pair.nodes[1])
        wait_for(lambda: pair.spec().switchover is not None, "the host to be asked", SOON)
        incident = msgspec.structs.replace(move(pair, "boot1-move1"), request=f"{pair.namespace}/{name}")
        agents.lose(pair.nodes[0], incident)
        done = wait_phase(pair, name, "Succeeded")
        assert (done["reason"], done["failover"]) == ("Moved", "vmstore-boot1-move1")


def test_the_history_is_bounded_and_nothing_comes_up_again(pair: Pair, operator: Operator) -> None:
    first, *others = pair.documents()
    first["spec"]["failoverHistoryLimit"] = 3
    pair.apply(first, *others)
    with Agents(pair) as agents:
        pair.wait_served()

        def records() -> list[str]:
            return sorted(item["spec"]["incident"] for item in pair.client.get(pair.path("failovers"))["items"])

        mine = agents.incidents[pair.nodes[1]]
        # a host that still tells of a move keeps its record there, however old it is
        agents.drops = False
        mine.extend(move(pair, f"i{number}", day=number) for number in range(1, 6))
        wait_for(lambda: len(records()) == 5, "the records", SOON)
        rest(pair)
        assert len(records()) == 5
        agents.drops = True
        wait_for(lambda: records() == ["i3", "i4", "i5"], "the history to be trimmed", SOON)
        wait_for(lambda: pair.get("storagepairs", "vmstore")["status"]["failovers"] == 3, "the count", SOON)
        rest(pair)
        operator.crash()
        operator.start()
        rest(pair)
        assert records() == ["i3", "i4", "i5"]
        today = datetime.now(UTC) - timedelta(hours=1)
        agents.incidents[pair.nodes[1]].append(move(pair, "why", "Unknown", at=today))
        agents.incidents[pair.nodes[1]].extend(
            move(pair, f"later{number}", at=today + timedelta(minutes=number)) for number in range(4)
        )
        wait_for(lambda: records() == ["later2", "later3", "why"], "the unresolved one to stay", SOON)


def move(pair: Pair, id_: str, cause: str = "Planned", *, day: int = 1, at: datetime | None = None) -> Incident:
    began = at or datetime(2026, 3, day, 11, 59, tzinfo=UTC)
    return Incident(
        id=id_,
        cause=cause,
        from_=pair.nodes[0],
        to=pair.nodes[1],
        start_time=moments.micro(began),
        end_time=moments.micro(began + timedelta(seconds=3)),
        milliseconds=3000,
        message="Somebody asked for it.",
        pause=Pause(milliseconds=2900),
    )
