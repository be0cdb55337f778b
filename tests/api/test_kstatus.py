"""What pipelines see of our objects: by the kstatus library itself, and no diff after an apply."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from api.kstatus_program import compute
from api.operator_agents import Agents
from api.operator_world import Operator, Pair, prepare, running
from api.planes import own_plane
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.waiting import SOON, wait_for
from unit.operator.stages import STAGES

pytestmark = pytest.mark.patient

PLURALS = {"storagepairs": "vmstore", "luns": "datastore1", "initiatoracls": "esx"}


def test_every_status_that_the_operator_writes() -> None:
    found = compute([stage.document for stage in STAGES])
    assert {str(stage): status for stage, (status, _) in zip(STAGES, found, strict=True)} == {
        str(stage): stage.kstatus for stage in STAGES
    }


@pytest.fixture(scope="module")
def plane(keeper: Keeper) -> Iterator[ControlPlane]:
    with own_plane(keeper, "kstatus") as plane:
        prepare(plane)
        yield plane


@pytest.fixture
def operator(plane: ControlPlane) -> Iterator[Operator]:
    with running(plane) as operator:
        yield operator


def made(plane: ControlPlane, name: str) -> Pair:
    pair = Pair(plane, name)
    pair.client.post("/api/v1/namespaces", {"metadata": {"name": name}})
    return pair


def statuses(pair: Pair) -> list[str]:
    return [status for status, _ in compute([pair.get(plural, name) for plural, name in PLURALS.items()])]


def test_a_pairs_life_on_a_real_api_server(plane: ControlPlane) -> None:
    pair = made(plane, "life")
    pair.apply()
    assert statuses(pair) == ["InProgress"] * 3, "nobody has looked at them"
    with running(plane):
        pair.wait("Ready", "False")
        pair.wait("Ready", "False", "luns", "datastore1")
        assert statuses(pair) == ["InProgress"] * 3
        with Agents(pair) as agents:
            pair.wait_served()
            wait_for(lambda: statuses(pair) == ["Current"] * 3, "all to be current", SOON)
            complaint = agents.condition("Bonds", "False", "NoLink", "eth1 of bond0 has no link")
            agents.conditions[pair.nodes[1]] = (agents.condition("Ready", "False", "Bonds"), complaint)
            pair.wait("Ready", "False")
            assert statuses(pair)[:2] == ["InProgress", "Current"], "degraded, and still serving"
            del agents.conditions[pair.nodes[1]]
            pair.wait_served()
            _refused_and_mended(pair)
            agents.silent |= set(pair.nodes)
            pair.kubectl("delete", "lun", "datastore1", "--wait=false")
            assert statuses(pair)[1] == "Terminating"
            agents.silent.clear()
            wait_for(lambda: not pair.exists("luns", "datastore1"), "the LUN to go", SOON)


def _refused_and_mended(pair: Pair) -> None:
    """A second LUN with the first one's number fails at once; without the rival it becomes current, and not stalled."""
    _, lun, _ = pair.documents()
    number = pair.get("luns", "datastore1")["status"]["number"]
    lun["metadata"]["name"], lun["spec"]["number"] = "rival", number
    pair.apply(lun)
    pair.wait("Stalled", "True", "luns", "rival")
    ((status, message),) = compute([pair.get("luns", "rival")])
    assert (status, "is LUN datastore1" in message) == ("Failed", True)
    pair.kubectl("delete", "lun", "rival", "--timeout=180s")
    lun["spec"]["number"] = number + 1
    pair.apply(lun)
    pair.wait("Ready", "True", "luns", "rival")
    assert pair.condition("Stalled", "luns", "rival") == {}
    assert compute([pair.get("luns", "rival")])[0][0] == "Current"
    pair.kubectl("delete", "lun", "rival", "--timeout=180s")


@pytest.mark.parametrize("side", ["client", "server"])
def test_no_diff_after_apply(plane: ControlPlane, operator: Operator, tmp_path: Path, side: str) -> None:
    """What a pipeline applied stays as it applied it, whatever the operator writes meanwhile."""
    pair = made(plane, f"diff-{side}")
    file = tmp_path / "storagepair.yaml"
    file.write_text(yaml.safe_dump_all(pair.documents()))
    flags = ["--server-side", "--field-manager=pipeline"] if side == "server" else []
    pair.kubectl("apply", *flags, f"--filename={file}")
    with Agents(pair):
        pair.wait_served()
        # kubectl ends with 1, which raises, when there is a difference
        assert pair.kubectl("diff", *flags, f"--filename={file}") == ""
        before = pair.versions()
        # client-side, kubectl says "configured" of the pair all the same: its patch lacks the defaults of a list
        pair.kubectl("apply", *flags, f"--filename={file}")
        assert pair.versions() == before, "applying it again changed something"
