"""The operator's process on a real API server: what users apply, what the hosts get, what is told."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator

import pytest
from api.operator_agents import Agents
from api.operator_world import API, SYSTEM, Operator, Pair, prepare, rest, running
from api.planes import own_plane
from lab.apiclient import ApiError
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.waiting import SOON, WaitTimeout, wait_for
from storagepair_crds.views import Incident

pytestmark = pytest.mark.patient

QUIET_SECONDS = 3.0
"""How long nothing may happen: more than an audit, and far more than a reconcile."""


@pytest.fixture(scope="module")
def plane(keeper: Keeper) -> Iterator[ControlPlane]:
    """An API server of their own: the operator would act on the other tests' objects too."""
    with own_plane(keeper, "operator") as plane:
        prepare(plane)
        yield plane


@pytest.fixture
def pair(plane: ControlPlane) -> Iterator[Pair]:
    """A namespace and two machines of the test's own, gone without a trace afterwards."""
    pair = Pair(plane, f"op-{secrets.token_hex(3)}")
    plane.client().post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    yield pair
    pair.forget()


@pytest.fixture
def operator(plane: ControlPlane) -> Iterator[Operator]:
    with running(plane) as operator:
        yield operator


def incident(pair: Pair, id_: str, cause: str = "NodeLost") -> Incident:
    return Incident(
        id=id_,
        cause=cause,
        from_=pair.nodes[0],
        to=pair.nodes[1],
        start_time="2026-03-01T11:59:00.000001Z",
        end_time="2026-03-01T11:59:11.200001Z",
        milliseconds=11200,
    )


def stays(pair: Pair, seconds: float = QUIET_SECONDS) -> None:
    """After it came to rest nothing is written by the operator for a while."""
    rest(pair)
    mark = pair.plane.audit.mark()
    with pytest.raises(WaitTimeout):
        wait_for(lambda: pair.written(mark), "nothing", seconds)


def test_from_one_file_to_a_served_lun(pair: Pair, operator: Operator) -> None:
    pair.apply()
    wait_for(lambda: pair.exists("storagepairs", "vmstore") and pair.says("Ready")[1] == "Preparing", "a status", SOON)
    wait_for(lambda: pair.spec(1).luns, "the LUN in both documents", SOON)
    one, two = pair.specs()
    assert (one.service, one.replication.seed, one.pair_ref.namespace) == ("Prepare", pair.nodes[0], pair.namespace)
    assert one.replication == two.replication
    assert [lun.name for lun in one.luns] == ["datastore1"]
    with Agents(pair):
        pair.wait_served()
    assert {spec.service for spec in pair.specs()} == {"Run"}
    status = pair.get("storagepairs", "vmstore")["status"]
    assert (status["active"], status["standby"], status["replication"]) == (*pair.nodes, "UpToDate")
    assert (status["luns"], status["failovers"], status["observedGeneration"]) == (1, 0, 1)
    lun = pair.get("luns", "datastore1")
    assert (lun["status"]["number"], lun["status"]["serial"], lun["status"]["sizeBytes"]) == (1, "beaf1", 67108864)
    assert lun["metadata"]["finalizers"] == ["storagepair.dev/host"]
    table = pair.kubectl("get", "storagepairs,luns,initiatoracls")
    assert "UpToDate" in table
    assert table.count("True") == 3


def test_the_key_is_made_once_and_kept_out_of_sight(pair: Pair, operator: Operator) -> None:
    pair.apply()
    with Agents(pair):
        pair.wait_served()
    path = f"/api/v1/namespaces/{SYSTEM}/secrets/{pair.namespace}.vmstore.heartbeat"
    secret = pair.client.get(path)
    key = base64.b64decode(secret["data"]["authkey"]).decode()
    assert len(key) == 64
    assert int(key, 16)
    assert key not in operator.log.read_text()
    for node, spec in zip(pair.nodes, pair.specs(), strict=True):
        assert spec.heartbeat.authkeys_secret_ref.name == f"storagenode-{node}"
        copy = pair.client.get(f"/api/v1/namespaces/{SYSTEM}/secrets/storagenode-{node}")
        assert copy["data"] == secret["data"]


def test_applying_again_and_restarting_writes_nothing(pair: Pair, operator: Operator, plane: ControlPlane) -> None:
    complaint = "eth1 of bond0 has no link"
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        # an event that a restart might be tempted to write again
        agents.conditions[pair.nodes[1]] = (
            agents.condition("Ready", "False", "Bonds", complaint),
            agents.condition("Bonds", "False", "NoLink", complaint),
        )
        pair.wait("Ready", "False")
        wait_for(lambda: any(complaint in event["note"] for event in pair.events()), "the complaint's event", SOON)
        rest(pair)
        before, mark, writes = pair.versions(), plane.audit.mark(), operator.writes
        pair.apply()
        stays(pair)
        assert operator.writes == writes > 0
        assert operator.stop() == 0
        operator.start()
        stays(pair)
        assert (operator.writes, pair.written(mark)) == (0, [])
        assert pair.versions() == before


def test_a_failover_is_one_record_and_one_event(pair: Pair, operator: Operator, plane: ControlPlane) -> None:
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        agents.lose(pair.nodes[0], incident(pair, "Boot7_Move1"))
        wait_for(
            lambda: pair.get("storagepairs", "vmstore")["status"].get("active") == pair.nodes[1], "the takeover", SOON
        )
        wait_for(lambda: agents.incidents[pair.nodes[1]] == [], "the delivery", SOON)
        assert pair.says("Ready") == ("False", "Degraded")
        assert pair.says("Serving")[0] == "True"
        assert f"{pair.nodes[0]}: not seen" in pair.condition("Ready")["message"]
        agents.come_back(pair.nodes[0])
        pair.wait("Ready", "True")
        agents.incidents[pair.nodes[1]].append(incident(pair, "boot8-move1", "Planned"))
        wait_for(lambda: agents.incidents[pair.nodes[1]] == [], "the second delivery", SOON)
        rest(pair)
    items = pair.client.get(pair.path("failovers"))["items"]
    assert sorted(item["spec"]["incident"] for item in items) == ["Boot7_Move1", "boot8-move1"]
    lost = next(item for item in items if item["spec"]["cause"] == "NodeLost")
    assert lost["metadata"]["name"].startswith("vmstore-boot7-move1-")
    assert lost["metadata"]["labels"] == {"storagepair.dev/pair": "vmstore"}
    assert (lost["spec"]["from"], lost["spec"]["to"], lost["spec"]["milliseconds"]) == (*pair.nodes, 11200)
    assert pair.get("storagepairs", "vmstore")["status"]["failovers"] == 2
    assert pair.spec(1).delivered_incidents == (), "dropped once the agent has dropped them"
    moves = {event["reason"]: event for event in pair.events() if event["action"] == "Move"}
    assert set(moves) == {"Failover", "Switchover"}
    assert len([event for event in pair.events() if event["action"] == "Move"]) == 2
    assert f"from {pair.nodes[0]} to {pair.nodes[1]} in 11.2 s" in moves["Failover"]["note"]
    assert moves["Failover"]["eventTime"] == "2026-03-01T11:59:11.200001Z"
    described = pair.kubectl("describe", "storagepairs/vmstore")
    assert "in 11.2 s" in described
    turns = [event["reason"] for event in pair.events() if event["action"] == "Ready"]
    assert sorted(turns) == ["Degraded", "Ready", "Ready"]


def test_a_machine_in_two_pairs_is_refused_and_untouched(pair: Pair, operator: Operator) -> None:
    pair.apply()
    with Agents(pair):
        pair.wait_served()
        before = pair.specs()
        newcomer, lun, _ = pair.documents(name="second", nodes=(pair.nodes[1], "spare"))
        newcomer["spec"]["virtualIP"]["address"] = "10.10.25.99/24"
        lun["metadata"]["name"] = "theirs"
        pair.apply(newcomer, lun)
        pair.wait("Accepted", "False", name="second")
        assert pair.says("Accepted", name="second") == ("False", "NodeInOtherPair")
        message = pair.condition("Accepted", name="second")["message"]
        assert pair.nodes[1] in message
        assert f"StoragePair {pair.namespace}/vmstore" in message
        pair.wait("Accepted", "False", "luns", "theirs")
        assert pair.says("Accepted", "luns", "theirs") == ("False", "PairNotAccepted")
        assert "finalizers" not in pair.get("luns", "theirs")["metadata"]
        assert pair.specs() == before
        assert pair.says("Ready") == ("True", "Ready")
        with pytest.raises(ApiError):
            pair.client.get(f"{API}/storagenodes/spare")
        wait_for(lambda: [e for e in pair.events() if e["reason"] == "NodeInOtherPair"], "the event", SOON)


def test_what_cannot_be_carried_out_says_why(pair: Pair, operator: Operator) -> None:
    _, lun, acl = pair.documents()
    lun["spec"]["target"] = acl["spec"]["target"] = "gold"
    pair.apply(lun, acl)
    for plural, name in (("luns", "datastore1"), ("initiatoracls", "esx")):
        pair.wait("Accepted", "False", plural, name)
        assert pair.says("Accepted", plural, name) == ("False", "PairNotFound")
    pair.apply(pair.documents()[0])
    for plural, name in (("luns", "datastore1"), ("initiatoracls", "esx")):
        wait_for(lambda p=plural, n=name: pair.says("Accepted", p, n)[1] == "TargetNotFound", "the target", SOON)
    pair.wait("Accepted", "True")
    assert pair.spec().luns == ()


def test_deleting_a_lun_takes_it_off_the_host_first(pair: Pair, operator: Operator) -> None:
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        assert set(agents.luns) == {"datastore1"}
        agents.silent |= set(pair.nodes)
        pair.kubectl("delete", "lun", "datastore1", "--wait=false")
        wait_for(lambda: [lun.state for lun in pair.spec().luns] == ["Absent"], "Absent", SOON)
        stays(pair)
        assert pair.says("Ready", "luns", "datastore1") == ("False", "Deleting")
        agents.silent.clear()
        wait_for(lambda: not pair.exists("luns", "datastore1"), "the LUN to go", SOON)
        assert agents.luns == {}
        wait_for(lambda: [spec.luns for spec in pair.specs()] == [(), ()], "the entries to go", SOON)
        # the name is free again
        pair.apply(pair.documents()[1])
        pair.wait("Ready", "True", "luns", "datastore1")


def test_deleting_an_acl_shuts_its_initiators_out(pair: Pair, operator: Operator) -> None:
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        assert agents.initiators == {"esx"}
        pair.kubectl("delete", "initiatoracl", "esx", "--timeout=180s")
        assert agents.initiators == set()
        wait_for(lambda: pair.spec().targets[0].initiators == (), "the entry to go", SOON)
        assert set(agents.luns) == {"datastore1"}


def test_deleting_the_pair_leaves_the_hosts_serving(pair: Pair, operator: Operator) -> None:
    pair.apply()
    with Agents(pair) as agents:
        pair.wait_served()
        before = pair.specs()
        pair.kubectl("delete", "storagepair/vmstore", "--timeout=180s")
        pair.kubectl("delete", "lun,initiatoracl", "--all", "--timeout=180s")
        stays(pair)
        assert pair.specs() == before
        assert (set(agents.luns), agents.initiators) == ({"datastore1"}, {"esx"})
        # and applied again it is the same pair
        pair.apply()
        pair.wait_served()
        assert pair.spec().luns == before[0].luns
        assert pair.spec().service == "Run"


def test_an_operator_that_sees_nothing_takes_nothing(pair: Pair, plane: ControlPlane) -> None:
    """As after a restore in the wrong order: the hosts' documents are there, what they came from is not yet."""
    with running(plane), Agents(pair) as agents:
        pair.apply()
        pair.wait_served()
    before = pair.specs()
    for plural, name in (("luns", "datastore1"), ("initiatoracls", "esx"), ("storagepairs", "vmstore")):
        item = pair.get(plural, name)
        item["metadata"]["finalizers"] = []
        pair.client.request("PUT", pair.path(plural, name), item)
        pair.client.delete(pair.path(plural, name))
    with running(plane):
        stays(pair)
        assert pair.specs() == before
        pair.apply(pair.documents()[0])
        with Agents(pair) as again:
            again.luns, again.initiators = agents.luns, agents.initiators
            pair.wait("Ready", "True")
            assert pair.spec().pair_ref.uid != before[0].pair_ref.uid
            assert (pair.spec().luns, pair.spec().targets, pair.spec().service) == (
                before[0].luns,
                before[0].targets,
                "Run",
            )
            assert "LUN datastore1" in pair.condition("Accepted")["message"]
            pair.apply()
            pair.wait_served()
            assert set(again.luns) == {"datastore1"}
            assert "LUN datastore1" not in pair.condition("Accepted")["message"]


def test_a_host_with_a_problem_is_named_on_the_pair(pair: Pair, operator: Operator) -> None:
    remedy = "heartbeat is not installed on the host; apt-get install heartbeat"
    pair.apply()
    with Agents(pair) as agents:
        agents.conditions[pair.nodes[1]] = (
            agents.condition("Ready", "False", "MissingTool", remedy),
            agents.condition("Preflight", "False", "MissingTool", remedy),
        )
        text = f"{pair.nodes[1]}: Preflight: {remedy}"
        wait_for(lambda: text in pair.condition("Ready").get("message", ""), "the message", SOON)
        assert pair.says("NodesReady") == ("False", "NodeNotReady")
        wait_for(lambda: [e for e in pair.events() if e["note"] == text], "the event", SOON)
        (event,) = (event for event in pair.events() if event["note"] == text)
        assert (event["type"], event["reason"], event["regarding"]["kind"]) == ("Warning", "MissingTool", "StoragePair")
