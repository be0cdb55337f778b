"""The Containerfiles, built by podman with the commands of docs/how-to/build-images.md: the lab's own images again.

The base image is made from Debian's packages, under the name that the Containerfiles have; the page's registry is
Debian's docker-registry on loopback.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docgen.commands import ENGINE, ROOT, commands
from lab import debian, images
from lab.components import with_own_hosts
from lab.images import Source
from lab.waiting import wait_for

pytestmark = pytest.mark.drill

REGISTRY, _ADDRESS = "registry.example", "127.0.0.77"  # loopback too; at port 80 there, where the name leads
_SECONDS = 900
# how this machine reaches its package index must hold in a build too; without the files nothing is special here
_MACHINES_OWN = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
_OURS = "usr/local"


@dataclass(frozen=True)
class Podman:
    """podman with a store of its own, and without the namespaces of a container that runs (buildah(1), --isolation)."""

    folder: Path

    def __call__(self, *arguments: str) -> str:
        """Of its own store alone. What it mounts is to be seen from here."""
        return self._run(["podman", *arguments])

    def shell(self, script: str) -> str:
        """What a script says to which podman is this one and which knows the page's registry; in the checkout."""
        return self._run(with_own_hosts(["bash", "-c", script], self.folder / "hosts"))

    def _run(self, command: list[str]) -> str:
        environment = os.environ | {
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.folder / "registries.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """With the base image in its store, and what the page says has been done."""
    assert shutil.which("podman"), "podman is missing: apt-get install podman (`make drills` does)"
    folder = tmp_path_factory.mktemp("podman")
    with _registry(folder), _store(folder) as podman:
        podman("import", "--quiet", str(_base(folder)), images.OPERATOR.containerfile.argument("BASE"))
        (ROOT / "build" / "images").mkdir(parents=True, exist_ok=True)
        (ROOT / "build" / "images" / "storagepair-operator.cdx.json").unlink(missing_ok=True)
        for block in commands(ENGINE):
            print(f"{block}\n{podman.shell(block.script)}")
        yield podman


@contextlib.contextmanager
def _store(folder: Path) -> Iterator[Podman]:
    """A podman with nothing in its store, which leaves no mount behind."""
    storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
    (folder / "storage.conf").write_text(storage)
    (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{REGISTRY}"\ninsecure = true\n')
    (folder / "hosts").write_text(f"{_ADDRESS} {REGISTRY}\n{Path('/etc/hosts').read_text()}")
    podman = Podman(folder)
    try:
        yield podman
    finally:
        podman("image", "unmount", "--all")
        overlay = folder / "store" / "overlay"
        if overlay.is_mount():  # containers/storage makes a private mount of it; pytest could not remove the folder
            subprocess.run(["umount", str(overlay)], check=True, timeout=60)


@contextlib.contextmanager
def _registry(folder: Path) -> Iterator[None]:
    """Debian's docker-registry, unpacked and not installed: its package would start one for everybody."""
    unpack = "apt-get download docker-registry && dpkg-deb -x docker-registry_*.deb registry"
    subprocess.run(["bash", "-ec", unpack], cwd=folder, check=True, capture_output=True, timeout=_SECONDS)
    config = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(folder / "pushed")}}}
    (folder / "registry.json").write_text(json.dumps({**config, "http": {"addr": f"{_ADDRESS}:80"}}))
    command = [folder / "registry" / "usr" / "bin" / "docker-registry", "serve", folder / "registry.json"]
    with (folder / "registry.log").open("wb") as log:
        registry = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: registry.poll() is not None or _answers(), "the registry", 60)
        assert registry.poll() is None, (folder / "registry.log").read_text()
        yield
    finally:
        registry.kill()
        registry.wait()


def _answers() -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection((_ADDRESS, 80), timeout=5):
        return True
    return False


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
    return f"{REGISTRY}/storagepair/{source.name}:0.1.0"


each_image = pytest.mark.parametrize("source", images.SOURCES, ids=lambda source: source.name)


@each_image
def test_an_engines_image_has_the_same_programs_and_libraries_as_the_labs(podman: Podman, source: Source) -> None:
    of_podman = Path(podman("image", "mount", _name(source)).strip()) / _OURS
    found = {
        str(file.relative_to(of_podman)): _digest(file.read_bytes()) for file in of_podman.rglob("*") if file.is_file()
    }
    expected = dict[str, str]()
    for layer in images.built(source).layers[1:]:
        with tarfile.open(layer.path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    expected[os.path.relpath(member.name, _OURS)] = _digest(file.read())
    assert len(expected) > 100
    assert found.keys() == expected.keys()
    assert [name for name, content in found.items() if content != expected[name]] == []


def _digest(content: bytes) -> str:
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


@each_image
def test_a_pushed_image_can_be_pulled_by_its_name(podman: Podman, source: Source, tmp_path: Path) -> None:
    pushed = podman("image", "inspect", "--format={{.Id}}", _name(source)).strip()
    with _store(tmp_path) as elsewhere:
        assert elsewhere.shell(f"podman pull --quiet {_name(source)}").strip() == pushed


def test_two_builds_by_an_engine_give_one_image(podman: Podman) -> None:
    build = ("build", "--quiet", "--no-cache", "--timestamp=0", "-f", "node-agent/Containerfile")
    again = podman(*build, "-t", "again", ".").strip().splitlines()[-1]
    assert again == podman("image", "inspect", "--format={{.Id}}", _name(images.AGENT)).strip()


def test_the_bill_of_materials_names_what_the_engine_installed(podman: Podman) -> None:
    bill = json.loads((ROOT / "build" / "images" / "storagepair-operator.cdx.json").read_text())
    components = {each["name"] for each in bill["components"]}
    assert {"kopf", "kubernetes", "python3", "libc6"} <= components
