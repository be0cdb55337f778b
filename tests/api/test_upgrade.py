"""An upgrade while a pair serves: CRDs, rights and operator of the commit before this one, then those of this one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api.operator_agents import Agents
from api.operator_world import Pair, prepare, rest, running
from api.planes import own_plane
from lab import earlier
from lab.controlplane import ControlPlane
from lab.keeper import Keeper

pytestmark = pytest.mark.patient


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree that landed before this one."""
    if not earlier.known():
        pytest.skip("this clone holds no earlier commit (a shallow one): there is nothing to upgrade from")
    return earlier.tree(tmp_path_factory.mktemp("upgrade"))


@pytest.fixture
def plane(keeper: Keeper, before: Path) -> Iterator[ControlPlane]:
    with own_plane(keeper, "upgrade") as plane:
        prepare(plane, before)
        yield plane


def test_a_serving_pair_goes_through_an_upgrade_and_its_hosts_are_asked_for_nothing(
    plane: ControlPlane, before: Path
) -> None:
    pair = Pair(plane, "upgrade")
    plane.client().post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    with running(plane, root=before):
        pair.apply()
        with Agents(pair) as agents:
            pair.wait_served()
            lun, specs = pair.get("luns", "datastore1")["status"], pair.specs()
    prepare(plane)
    assert pair.specs() == specs, "what is stored reads the same by the new CRDs"
    with running(plane), Agents(pair) as agents:
        agents.luns["datastore1"] = lun["number"]
        agents.initiators.add("esx")
        pair.wait_served()
        rest(pair)
        assert pair.specs() == specs
        pair.apply()  # the same file again, by the new schema's defaults
        rest(pair)
        assert pair.specs() == specs
        after = pair.get("luns", "datastore1")["status"]
    assert (after["number"], after["serial"]) == (lun["number"], lun["serial"])
    assert agents.ended == []
