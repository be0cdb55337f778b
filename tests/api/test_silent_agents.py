"""An agent that falls silent is noticed by the operator's process on a real API server; one that renews never is."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest
from api.operator_agents import Agents, lease_path
from api.operator_world import SYSTEM, Operator, Pair, prepare, rest, running
from api.permissions_world import refusal
from api.planes import own_plane
from api.relay import Relay
from lab.apiclient import ApiClient
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.waiting import SOON, wait_for
from storagepair_node_agent import credentials
from storagepair_node_agent.api import Api
from storagepair_node_agent.transport import Transport

SILENT_SECONDS = 12.0
"""Ten times what the tests' agents need for a renewal; the machine is shared."""

MEANWHILE = SILENT_SECONDS * 1.75
"""Long enough for a verdict: a term, and a look that comes late."""


@pytest.fixture(scope="module")
def plane(keeper: Keeper) -> Iterator[ControlPlane]:
    with own_plane(keeper, "silent") as plane:
        prepare(plane)
        yield plane


@pytest.fixture
def pair(plane: ControlPlane) -> Iterator[Pair]:
    pair = Pair(plane, f"silent-{secrets.token_hex(3)}")
    plane.client().post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    yield pair
    pair.forget()


def told(pair: Pair) -> list[tuple[str, str]]:
    """The events about agents, in no order."""
    return sorted((event["type"], event["reason"]) for event in pair.events() if event["action"] == "Listen")


def silent_since(pair: Pair, index: int) -> str:
    since: str = pair.get("storagepairs", "vmstore")["status"]["nodes"][index].get("agentSilentSince", "")
    return since


def test_a_silent_agent_is_told_once_and_so_is_its_return(pair: Pair, plane: ControlPlane) -> None:
    pair.apply()
    with running(plane, silent_seconds=SILENT_SECONDS) as operator, Agents(pair) as agents:
        pair.wait_served()
        node, specs = pair.nodes[1], pair.specs()
        agents.silent.add(node)
        pair.wait("Ready", "Unknown")
        assert pair.says("Ready") == pair.says("NodesReady") == ("Unknown", "AgentSilent")
        assert f"{node}: its node agent is silent since {silent_since(pair, 1)}" in pair.condition("Ready")["message"]
        status = pair.get("storagepairs", "vmstore")["status"]
        assert (status["active"], status["standby"], silent_since(pair, 0)) == (*pair.nodes, "")
        assert operator.metric("storagepair_operator_silent_agents") == 1
        time.sleep(MEANWHILE)
        assert told(pair) == [("Warning", "AgentSilent")]
        agents.silent.clear()
        pair.wait("Ready", "True")
        assert silent_since(pair, 1) == ""
        rest(pair)
        assert told(pair) == [("Normal", "AgentReports"), ("Warning", "AgentSilent")]
        assert pair.specs() == specs, "no host is asked for anything"


def test_renewals_cost_the_operator_no_write(pair: Pair, plane: ControlPlane) -> None:
    pair.apply()
    with running(plane, silent_seconds=SILENT_SECONDS) as operator, Agents(pair):
        pair.wait_served()
        time.sleep(SILENT_SECONDS / 2)  # two looks at the Leases: that the agents live is known, and was news once
        rest(pair)
        mark, looked = plane.audit.mark(), operator.log.read_text().count(f"{pair.namespace}/vmstore")
        time.sleep(MEANWHILE)
        renewed = [write for write in plane.audit.writes(mark) if write.name == f"storagenode-{pair.nodes[0]}"]
        assert len(renewed) > 5
        assert {(write.verb, write.resource, write.status) for write in renewed} == {("patch", "leases", 200)}
        assert pair.written(mark) == []
        assert operator.log.read_text().count(f"{pair.namespace}/vmstore") == looked, "nor a look at the pair"


def test_an_operator_that_starts_anew_alarms_nobody_and_forgets_nothing(pair: Pair, plane: ControlPlane) -> None:
    pair.apply()
    with Agents(pair) as agents:
        operator = Operator(plane, silent_seconds=SILENT_SECONDS).start()
        pair.wait_served()
        rest(pair)
        assert operator.stop() == 0
        time.sleep(MEANWHILE)
        mark = plane.audit.mark()
        operator.start()
        time.sleep(MEANWHILE)
        assert (pair.written(mark), pair.says("Ready")) == ([], ("True", "Ready"))
        agents.silent.add(pair.nodes[0])
        pair.wait("Ready", "Unknown")
        rest(pair)
        assert operator.stop() == 0
        mark = plane.audit.mark()
        operator.start()
        time.sleep(MEANWHILE)
        assert (pair.written(mark), pair.says("Ready")) == ([], ("Unknown", "AgentSilent"))
        assert operator.stop() == 0
        # one that fell silent while no operator ran
        agents.silent.add(pair.nodes[1])
        operator.start()
        wait_for(lambda: silent_since(pair, 1), "the second one", SOON)
        agents.silent.clear()
        pair.wait("Ready", "True")
        wait_for(lambda: len(told(pair)) == 4, "both ways of both", SOON)
        assert operator.stop() == 0


def test_an_api_server_that_was_away_silences_nobody(pair: Pair, plane: ControlPlane) -> None:
    relay = Relay(plane.port)
    pair.apply()
    with running(plane, server=relay.url, silent_seconds=SILENT_SECONDS) as operator, Agents(pair) as agents:
        pair.wait_served()
        rest(pair)
        mark = plane.audit.mark()
        relay.cut()
        agents.silent |= set(pair.nodes)  # it is away for them too
        time.sleep(MEANWHILE)
        relay.mend()
        wait_for(lambda: operator.ready, "the operator to see again", SOON)
        agents.silent.clear()
        time.sleep(MEANWHILE)
        assert (told(pair), pair.says("Ready")) == ([], ("True", "Ready"))
        assert pair.written(mark) == []


def test_agents_of_an_earlier_version_are_never_called_silent(pair: Pair, plane: ControlPlane) -> None:
    pair.apply()
    agents = Agents(pair)
    agents.renews = False
    with running(plane, silent_seconds=SILENT_SECONDS):
        wait_for(lambda: pair.says("NodesReady")[1] == "WaitingForAgent", "the agents to be waited for", SOON)
        time.sleep(MEANWHILE)
        assert pair.says("NodesReady") == ("False", "WaitingForAgent")
        with agents:
            pair.wait_served()
            time.sleep(MEANWHILE)
            assert (told(pair), pair.says("Ready")) == ([], ("True", "Ready"))


def test_the_agents_own_client_renews_its_lease_and_reaches_no_other(pair: Pair, plane: ControlPlane) -> None:
    pair.apply()
    with running(plane), Agents(pair):
        pair.wait_served()
        first, second = pair.nodes
        path = plane.folder / f"{first}-agent.kubeconfig"
        plane.service_account_kubeconfig(SYSTEM, f"storagenode-{first}", path)
        user = credentials.from_kubeconfig(path)
        api, before = Api(Transport(user.server, user.tls), user, first), pair.client.get(lease_path(first))
        api.renew_lease()
        after = pair.client.get(lease_path(first))
        assert after["spec"]["holderIdentity"] == first
        assert after["spec"]["renewTime"] > before["spec"]["renewTime"]
        assert after["metadata"]["ownerReferences"][0]["uid"] == pair.node()["metadata"]["uid"]
        client = ApiClient(path)
        assert "forbidden" in refusal(client, "PATCH", lease_path(second), {"spec": {}})
        for method in ("GET", "DELETE"):
            assert "forbidden" in refusal(client, method, lease_path(first)), method
