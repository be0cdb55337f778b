"""Where the programs come from, and what is said when they can't be had. Nothing is built here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from lab import binaries, cache

FAKE_GO = f"""\
#!{sys.executable}
import json, os, pathlib, sys
if sys.argv[1] == "version":
    print("go version go{{version}} linux/amd64")
    sys.exit(0)
record = pathlib.Path(__file__).with_name("calls")
with record.open("a") as stream:
    print(json.dumps([sys.argv[1:], dict(os.environ)]), file=stream)
output = next(pathlib.Path(a[3:]) for a in sys.argv if a.startswith("-o="))
packages = [a for a in sys.argv[2:] if not a.startswith("-")]
for path in [output / p.rpartition("/")[2] for p in packages] if output.is_dir() else [output]:
    path.write_text("#!/bin/sh\\n")
    path.chmod(0o755)
"""


def install_go(folder: Path, version: str) -> None:
    folder.mkdir()
    (folder / "go").write_text(FAKE_GO.replace("{version}", version))
    (folder / "go").chmod(0o755)


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv(cache.ROOT_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(binaries.ASSETS_VARIABLE, raising=False)
    return folder


def test_a_missing_go_is_said_with_the_remedy(path_folder: Path) -> None:
    with pytest.raises(binaries.BinariesError, match=r"go is missing.* install Go 1\.\d+.*KUBEBUILDER_ASSETS"):
        binaries.binary("etcd")


def test_a_go_that_is_too_old_is_said_with_the_remedy(path_folder: Path) -> None:
    install_go(path_folder, "1.9.7")
    with pytest.raises(binaries.BinariesError, match=r"is Go 1\.9\.7: install Go 1\.\d+"):
        binaries.binary("containerd")


def test_bundles_are_built_by_what_is_asked_for(path_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(path_folder, "1.99")
    monkeypatch.setenv("GOFLAGS", "-mod=mod -race")
    monkeypatch.setenv("GOARCH", "riscv64")
    found = binaries.binaries("etcd", "kubectl")
    assert all(os.access(path, os.X_OK) for path in found.values())
    calls = [json.loads(line) for line in (path_folder / "calls").read_text().splitlines()]
    assert [call[0][-1].rpartition("/")[2] for call in calls] == ["v3", "kubectl"]
    for arguments, environment in calls:
        assert environment["GOFLAGS"] == "-mod=readonly"
        assert "GOARCH" not in environment
        assert "-trimpath" in arguments
    # the second time nothing is built
    assert binaries.binaries("etcd", "kubectl") == found
    assert len((path_folder / "calls").read_text().splitlines()) == 2


def test_kubebuilder_assets_win_for_what_they_have(
    path_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_go(path_folder, "1.99")
    assets = tmp_path / "assets"
    assets.mkdir()
    monkeypatch.setenv(binaries.ASSETS_VARIABLE, str(assets))
    (assets / "etcd").write_text("#!/bin/sh\n")
    (assets / "etcd").chmod(0o755)
    (assets / "kubectl").write_text("not executable")
    assert binaries.binary("etcd") == assets / "etcd"
    assert binaries.binary("kubectl").is_relative_to(tmp_path / "cache")
    monkeypatch.setenv(binaries.ASSETS_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(binaries.BinariesError, match="which is not a folder"):
        binaries.binary("etcd")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(binaries.BinariesError, match="minikube is not among"):
        binaries.binary("minikube")


def test_each_program_is_in_one_bundle_of_a_pinned_module() -> None:
    assert len(set(binaries.NAMES)) == len(binaries.NAMES) == 10
    for bundle in binaries.BUNDLES:
        pinned = (bundle.module / "go.mod").read_text()
        for package in bundle.packages.values():
            assert f"\t{package}\n" in pinned or f"module {package}\n" in pinned
