"""The manifests name the images of this very version."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["operator", "node-agent"])
def test_a_manifest_names_the_image_of_this_version(name: str) -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    documents = yaml.safe_load_all((REPOSITORY / "manifests" / f"{name}.yaml").read_text())
    (workload,) = (each for each in documents if each["kind"] in ("Deployment", "DaemonSet"))
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"storagepair.dev/{name}:{version}"
