"""Argo CD's health checks, run by a Lua interpreter as Argo CD runs them, on every status that the operator writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime
from storagepair_operator.kinds import KINDS
from unit.operator.stages import STAGES, Stage

FILE = Path(__file__).parents[3] / "manifests" / "argocd" / "argocd-cm.yaml"
CHECKS: dict[str, str] = yaml.safe_load(FILE.read_text())["data"]
PREFIX = "resource.customizations.health.storagepair.dev_"


def health(document: Any) -> tuple[str, str]:
    """What Argo CD shows: it gives the script the object as `obj`, and takes the table that it returns."""
    lua = LuaRuntime(register_eval=False, unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(document, recursive=True)
    found = lua.execute(CHECKS[PREFIX + document["kind"]])
    return found.status, found.message


def test_every_kind_has_a_check() -> None:
    assert set(CHECKS) == {PREFIX + kind.name for kind in KINDS}


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_health(stage: Stage) -> None:
    status, message = health(stage.document)
    assert status == stage.argo
    assert message


VERDICTS = {
    "Current": {"Healthy"},
    "Failed": {"Degraded"},
    "InProgress": {"Progressing", "Degraded"},  # Degraded where it serves badly or not at all
    "Terminating": {"Progressing"},
}


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_argo_cd_and_kstatus_agree(stage: Stage) -> None:
    assert stage.argo in VERDICTS[stage.kstatus]


def test_nothing_in_a_document_crashes_a_check() -> None:
    for kind in KINDS:
        for status in (
            {},
            {"conditions": {}},
            {"observedGeneration": 1},
            {"conditions": [{}], "observedGeneration": 1},
        ):
            assert health({"kind": kind.name, "metadata": {"generation": 1}, "status": status})[0]
