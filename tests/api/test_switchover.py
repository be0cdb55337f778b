"""Switchovers with the operator's process on a real API server; the machines are the API's only (operator_world)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from api.operator_world import SOON, Agents, Operator, Pair, prepare, running
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.waiting import wait_for


@pytest.fixture(scope="module")
def plane(keeper: Keeper) -> ControlPlane:
    """An API server of their own: the operator would act on the other tests' objects too."""
    plane = ControlPlane.start(keeper, keeper.run_dir / "switchover", controllers=False)
    prepare(plane)
    return plane


@pytest.fixture
def pair(plane: ControlPlane) -> Pair:
    """A namespace and two machines of the test's own; left behind: the control plane is thrown away."""
    pair = Pair(plane, f"so-{secrets.token_hex(3)}")
    plane.client().post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    return pair


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
        wait_for(lambda: pair.get("storagepairs", "vmstore")["status"]["active"] == pair.nodes[1], "the move", SOON)
        pair.wait("Ready", "True")
        started = ["SwitchoverStarted", "SwitchoverSucceeded"]
        assert told(pair, "Switchover", name) == told(pair, "StoragePair", "vmstore") == started
