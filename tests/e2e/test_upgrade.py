"""From the version before this one (`UPGRADE_FROM`, a commit) to this one, on real hosts with an initiator at work."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import drill, earlier
from lab.drill import NAMESPACE
from lab.images import AGENT
from lab.initiator import Initiator
from lab.pair import Pair
from lab.stack import Stack
from lab.waiting import wait_for

pytestmark = pytest.mark.drill


@pytest.fixture()
def before(tmp_path: Path) -> Path:
    """The source tree of the version before."""
    if not earlier.known():
        pytest.skip(f"this clone does not hold {earlier.REVISION}: there is nothing to upgrade from")
    return earlier.tree(tmp_path)


def test_crds_operator_and_agents_are_upgraded_under_a_writer_and_nothing_moves(bare: Stack, before: Path) -> None:
    pair, initiator = Pair(bare, namespace=NAMESPACE), Initiator(bare.lab.initiator)
    bare.stop_operator()
    bare.apply_manifests("beside", before)
    archive = earlier.agent_image(before)
    bare.load_archive(archive)
    _replace_agents(bare)
    bare.start_operator(before)
    pair.apply(before / "manifests" / "samples" / "storagepair.yaml")
    pair.wait_ready()
    served = lambda: pair.condition("Ready", "lun", "datastore1").get("status") == "True"  # noqa: E731
    wait_for(served, "the LUN to be Ready", 90, interval=0.5)
    active, lun, agents = pair.active, pair.lun_identity(), _images(bare)
    journals = drill.journals(bare.lab.nodes)

    writer = initiator.start_writer(drill.log_in(initiator), name="upgrade")
    writer.wait_acked(40)
    bare.stop_operator()
    bare.load_image(AGENT)
    bare.apply_manifests("beside")
    bare.start_operator()
    pair.wait_ready()
    writer.wait_acked(40)
    bare.kubectl("rollout", "restart", "daemonset/storagepair-node-agent", "-n", "storagepair-system")
    bare.kubectl("rollout", "status", "daemonset/storagepair-node-agent", "-n", "storagepair-system", timeout=400)
    bare.wait_agents()
    pair.wait_ready()
    writer.wait_acked(40)
    result = writer.result()
    assert (result.lost, result.errors) == (0, 0)
    print(f"longest gap {max((gap.seconds for gap in result.gaps), default=0):.1f} s")
    assert not _images(bare) & agents, "these are other agents"
    assert (pair.active, pair.lun_identity()) == (active, lun)
    assert drill.journals(bare.lab.nodes) == journals, "no host started or stopped the service"
    assert pair.failovers() == []
    # and what they have put on the hosts since works
    bare.lab.machines[active].power_cut()
    survivor = bare.lab.machines[drill.other(pair, active)]
    wait_for(lambda: drill.serves(survivor), "the other node to take over", 90, interval=0.5)
    assert writer.verify_again(drill.log_in(initiator)).lost == 0


def _replace_agents(stack: Stack) -> None:
    for node in stack.lab.nodes:
        stack.restart_agent(node.name)


def _images(stack: Stack) -> set[str]:
    """The digests of the images that the agents run."""
    pods = [stack.agent_pod(node.name) for node in stack.lab.nodes]
    return {pod["status"]["containerStatuses"][0]["imageID"] for pod in pods if pod is not None}
