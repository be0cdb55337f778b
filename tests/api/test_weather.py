"""An API server that is slow, that throttles, that restarts, and kinds that come late or go away: the operator asks
again with growing pauses, makes no storm when it is better, and sees what is true in the end.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from api.gate import Gate
from api.operator_agents import Agents
from api.operator_world import ACCOUNT, Operator, Pair, prepare, rest, running
from api.planes import own_plane
from api.relay import Relay
from api.traffic import Traffic
from lab.apiclient import ApiError
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.kubectl import apply_crds, kubectl
from lab.waiting import SOON, wait_for

AUDIT_SECONDS = 5.0
WINDOW_SECONDS = 10.0
FEW = 400
"""Requests within the window: an operator makes 40 to 90 of it. A storm is thousands."""

KINDS = ("failovers", "initiatoracls", "luns", "storagenodes", "storagepairs", "switchovers")


@pytest.fixture(scope="module")
def plane(keeper: Keeper) -> Iterator[ControlPlane]:
    with own_plane(keeper, "weather") as plane:
        prepare(plane)
        yield plane


@pytest.fixture(scope="module")
def traffic(plane: ControlPlane) -> Traffic:
    return Traffic(plane, ACCOUNT)


@pytest.fixture
def pair(plane: ControlPlane) -> Iterator[Pair]:
    pair = Pair(plane, f"weather-{secrets.token_hex(3)}")
    plane.client().post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    yield pair
    pair.forget()


@pytest.fixture
def served(pair: Pair) -> Iterator[Agents]:
    pair.apply()
    with Agents(pair) as agents:
        yield agents


def another(pair: Pair, name: str) -> None:
    _, lun, _ = pair.documents()
    lun["metadata"]["name"] = name
    pair.apply(lun)


def becomes_true(pair: Pair, operator: Operator, luns: int, *names: str) -> None:
    """What was applied meanwhile is served, what was seen is right, and the operator comes to rest."""
    for name in names:
        pair.wait("Ready", "True", "luns", name)
    pair.wait("Ready", "True")
    wait_for(lambda: pair.get("storagepairs", "vmstore")["status"]["luns"] == luns, "the right number of LUNs", SOON)
    operator.wait_ready()
    rest(pair)


def test_slow_answers_make_it_slow_and_nothing_else(
    plane: ControlPlane, pair: Pair, served: Agents, traffic: Traffic
) -> None:
    relay = Relay(plane.port)
    with running(plane, server=relay.url, audit_seconds=AUDIT_SECONDS) as operator:
        pair.wait_served()
        relay.delay_seconds = 1.0
        another(pair, "second")
        becomes_true(pair, operator, 2, "second")
        assert 0 < traffic.within(WINDOW_SECONDS) < FEW
        # too slow to renew a lease: it does not know any more whether it leads, and writes nothing
        relay.delay_seconds = 8.0
        operator.wait_log("the lease can't be renewed")
        another(pair, "third")
        assert traffic.within(WINDOW_SECONDS) < FEW
        relay.delay_seconds = 0.0
        assert traffic.within(WINDOW_SECONDS) < FEW
        becomes_true(pair, operator, 3, "third")


def test_a_throttling_api_server_is_left_alone(plane: ControlPlane, pair: Pair, served: Agents) -> None:
    """429 with Retry-After to everything, the watches too."""
    gate = Gate(plane)
    with running(plane, server=gate.url, audit_seconds=AUDIT_SECONDS) as operator:
        pair.wait_served()
        gate.throttle()
        another(pair, "second")
        wait_for(lambda: not operator.ready, "the operator to notice", SOON)
        assert gate.within(WINDOW_SECONDS) < FEW
        assert {lun.name for lun in pair.spec().luns} == {"datastore1"}
        gate.busy = False
        assert gate.within(WINDOW_SECONDS) < FEW
        becomes_true(pair, operator, 2, "second")


def test_a_restart_with_objects_gone_meanwhile_makes_no_storm(
    plane: ControlPlane, pair: Pair, served: Agents, traffic: Traffic
) -> None:
    """Cut off, one object gone and one new; then the API server restarts, which makes all old versions 410 Gone."""
    relay = Relay(plane.port)
    with running(plane, server=relay.url, audit_seconds=AUDIT_SECONDS) as operator:
        another(pair, "second")
        pair.wait("Ready", "True", "luns", "second")
        pair.wait_served()
        relay.cut()
        pair.forget("second")
        another(pair, "third")
        plane.stop_apiserver()
        plane.start_apiserver()
        relay.mend()
        assert traffic.within(WINDOW_SECONDS) < FEW
        becomes_true(pair, operator, 2, "third")
        assert f"LUN {pair.namespace}/second" in operator.log.read_text()
        assert "LUN second" in pair.condition("Accepted")["message"], "the hosts keep it, and that is said"


def test_kinds_that_come_late_are_waited_for(plane: ControlPlane, pair: Pair, traffic: Traffic) -> None:
    names = [f"{kind}.storagepair.dev" for kind in KINDS]
    kubectl(plane.admin_kubeconfig, "delete", "crd", *names, "--timeout=180s")
    operator = Operator(plane, audit_seconds=AUDIT_SECONDS).start(ready=False)
    try:
        operator.wait_log("the lists can't be read")
        assert traffic.within(WINDOW_SECONDS) < FEW
        assert not operator.ready
        apply_crds(plane.admin_kubeconfig)
        pair.apply()
        with Agents(pair):
            pair.wait_served()
            operator.wait_ready()
        assert traffic.within(WINDOW_SECONDS) < FEW
    finally:
        assert operator.stop() == 0


def test_the_hosts_own_kind_may_go_and_come_back(
    plane: ControlPlane, pair: Pair, served: Agents, traffic: Traffic
) -> None:
    """All StorageNodes are gone with it. The hosts serve on, and are described anew from what is declared."""
    with running(plane, audit_seconds=AUDIT_SECONDS) as operator:
        pair.wait_served()
        before = pair.specs()
        kubectl(plane.admin_kubeconfig, "delete", "crd", "storagenodes.storagepair.dev", "--timeout=180s")
        wait_for(lambda: not operator.ready, "the operator to see that its view is not whole", SOON)
        assert traffic.within(WINDOW_SECONDS) < FEW
        apply_crds(plane.admin_kubeconfig)
        operator.wait_ready()
        pair.wait_served()
        wait_for(lambda: services(pair) == ["Run", "Run"], "both to run", SOON)
        rest(pair)
        assert pair.specs() == before
        assert traffic.within(WINDOW_SECONDS) < FEW
    assert (set(served.luns), served.initiators) == ({"datastore1"}, {"esx"})


def services(pair: Pair) -> list[str]:
    """What is asked of the two hosts; [] while one of them is not described: the pair's own status may be older."""
    try:
        return [spec.service for spec in pair.specs()]
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return []
