"""The Containerfiles, built by podman with the commands of docs/how-to/build-images.md: the lab's own images again.

There is no registry here: the base image is made from Debian's packages, under the name that the Containerfiles have.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docgen.commands import ENGINE, ROOT, commands
from lab import debian, images
from lab.images import Source

pytestmark = pytest.mark.drill

_SECONDS = 900
# how this machine reaches its package index must hold in a build too; without the files nothing is special here
_MACHINES_OWN = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
_SITE = "usr/local"


@dataclass(frozen=True)
class Podman:
    """podman with a store of its own, and without the namespaces of a container that runs (buildah(1), --isolation)."""

    folder: Path

    def __call__(self, *arguments: str) -> str:
        return self.shell(shlex.join(("podman", *arguments)))

    def shell(self, script: str) -> str:
        """What a script says to which podman is this one. It is run where a reader is: in the checkout."""
        environment = os.environ | {
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """With the base image in its store, and what the page says has been done."""
    assert shutil.which("podman"), "podman is missing: apt-get install podman (`make drills` does)"
    folder = tmp_path_factory.mktemp("podman")
    storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
    (folder / "storage.conf").write_text(storage)
    podman = Podman(folder)
    podman("import", "--quiet", str(_base(folder)), images.OPERATOR.containerfile.argument("BASE"))
    (ROOT / "build" / "images").mkdir(parents=True, exist_ok=True)
    (ROOT / "build" / "images" / "storagepair-operator.cdx.json").unlink(missing_ok=True)
    for block in commands(ENGINE):
        print(f"{block}\n{podman.shell(block.script)}")
    yield podman
    podman("image", "unmount", "--all")  # so that pytest can remove the folder


def _base(folder: Path) -> Path:
    """Debian with apt and nothing else, as the image that the Containerfiles name is."""
    base = folder / "base.tar"
    there = [path for path in _MACHINES_OWN if Path(path).exists()]
    command = debian.mmdebstrap_command(
        "trixie", debian.machine_mirror(), base, ["ca-certificates"], debian.machine_options()
    )
    hooks = [f"--customize-hook=upload {path} {path}" for path in there]
    debian.run_mmdebstrap([command[0], *hooks, *command[1:]], folder / "mmdebstrap.log")
    return base


def _name(source: Source) -> str:
    return f"registry.example/storagepair/{source.name}:0.1.0"


each_image = pytest.mark.parametrize("source", images.SOURCES, ids=lambda source: source.name)


@each_image
def test_an_engines_image_has_the_same_programs_and_libraries_as_the_labs(podman: Podman, source: Source) -> None:
    of_podman = Path(podman("image", "mount", _name(source)).strip()) / _SITE
    found = {
        str(file.relative_to(of_podman)): _of(file.read_bytes()) for file in of_podman.rglob("*") if file.is_file()
    }
    expected = dict[str, str]()
    for layer in images.built(source).layers[1:]:
        with tarfile.open(layer.path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    expected[os.path.relpath(member.name, _SITE)] = _of(file.read())
    assert len(expected) > 100
    assert found.keys() == expected.keys()
    assert [name for name, content in found.items() if content != expected[name]] == []


def _of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@each_image
def test_an_engines_image_starts_the_same_program_as_the_same_user(podman: Podman, source: Source) -> None:
    config = json.loads(podman("image", "inspect", _name(source)))[0]["Config"]
    said = source.containerfile
    assert (tuple(config["Entrypoint"]), config.get("User", "")) == (said.entrypoint, said.user)
    assert set(said.environment) <= set(config["Env"])
    root = podman("image", "mount", _name(source)).strip()
    command = ["chroot", f"--userspec={said.user or '0:0'}", root, *said.entrypoint, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["usage:", source.program]), done.stderr


def test_two_builds_by_an_engine_give_one_image(podman: Podman) -> None:
    build = ("build", "--quiet", "--no-cache", "--timestamp=0", "-f", "node-agent/Containerfile")
    again = podman(*build, "-t", "again", ".").strip().splitlines()[-1]
    assert again == podman("image", "inspect", "--format={{.Id}}", _name(images.AGENT)).strip()


def test_the_bill_of_materials_names_what_the_engine_installed(podman: Podman) -> None:
    bill = json.loads((ROOT / "build" / "images" / "storagepair-operator.cdx.json").read_text())
    components = {each["name"] for each in bill["components"]}
    assert {"kopf", "kubernetes", "python3", "libc6"} <= components
