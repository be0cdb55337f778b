"""The documentation's commands for a cluster, as written, in the order of the pages, on a real API server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api.planes import own_plane
from docgen.commands import API, ROOT, Block, commands
from lab.keeper import Keeper
from lab.reader import environment, run_as_written

pytestmark = pytest.mark.patient

NODES = ("node1", "node2")


@pytest.fixture(scope="module")
def shell(keeper: Keeper) -> Iterator[dict[str, str]]:
    """The environment of a person with a checkout and a cluster of two machines, with nothing of storagepair yet. Its
    controllers run: without them no namespace ever goes."""
    with own_plane(keeper, "docs", controllers=True) as plane:
        for name in NODES:
            plane.client().post("/api/v1/nodes", {"metadata": {"name": name}})
        # and a GitOps tool's own configuration, for us to patch
        plane.client().post("/api/v1/namespaces", {"metadata": {"name": "argocd"}})
        plane.client().post("/api/v1/namespaces/argocd/configmaps", {"metadata": {"name": "argocd-cm"}})
        yield environment(plane.admin_kubeconfig, keeper.run_dir / "docs-cache")


@pytest.mark.parametrize("block", commands(API), ids=str)
def test_as_written(shell: dict[str, str], block: Block) -> None:
    run_as_written(block, ROOT, shell)
