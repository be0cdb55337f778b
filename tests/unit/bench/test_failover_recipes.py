"""The peers' recipes: every stack waits equally long, and serves the same thing at the same place."""

from __future__ import annotations

import re

import pytest
import yaml
from bench import failover_hosts as hosts
from bench import failover_pacemaker as pacemaker
from bench.failover_image import PEERS
from bench.failover_model import DEADTIME_SECONDS
from lab import debian, drill
from lab.pair import SAMPLE

RECIPES = {
    "classic": ("classic/haresources", "classic/tgtboot", "classic/ha-targets"),
    "pacemaker": ("pacemaker/cluster.crm",),
}


def sample() -> dict:
    return next(yaml.safe_load_all(SAMPLE.read_text()))["spec"]


def test_every_stack_declares_its_peer_dead_after_the_same_time():
    assert sample()["heartbeat"]["deadtimeSeconds"] == DEADTIME_SECONDS
    ha_cf = hosts.recipe("classic/ha.cf", deadtime=DEADTIME_SECONDS, initdead=2 * DEADTIME_SECONDS)
    assert f"\ndeadtime {DEADTIME_SECONDS}\n" in ha_cf
    assert pacemaker.TOKEN_MILLISECONDS + pacemaker.CONSENSUS_MILLISECONDS == 1000 * DEADTIME_SECONDS


@pytest.mark.parametrize("stack", RECIPES)
def test_every_stack_serves_the_same_target_at_the_same_address_written_through(stack):
    whole = "\n".join(hosts.recipe(name) for name in RECIPES[stack])
    assert drill.IQN in whole
    assert sample()["virtualIP"]["address"].startswith(f"{hosts.ADDRESS}/")
    assert re.search(rf"\b{re.escape(hosts.ADDRESS)}\b", whole)
    assert re.search(r"bsoflags[ =]sync", whole)
    assert "ext4" in whole
    assert sample()["filesystem"]["type"] == "ext4"


def test_the_peers_lun_has_the_size_of_ours():
    lun = next(each for each in yaml.safe_load_all(SAMPLE.read_text()) if each["kind"] == "LUN")
    assert lun["spec"]["size"] == f"{hosts.LUN_MIB}Mi"


def test_a_recipe_says_what_it_needs():
    with pytest.raises(KeyError):
        hosts.recipe("classic/ha.cf", deadtime=5)


def test_no_package_of_the_peers_is_in_the_image_that_everybody_builds():
    assert not set(PEERS.packages) & set(debian.PACKAGES)
