"""The container images, made twice from nothing: one digest. What is in them is in their bills of materials."""

from __future__ import annotations

import json
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab import images
from lab.images import BuiltImage

pytestmark = pytest.mark.drill

# unpacked, in MB: Debian with Python is 100 of it
BUDGETS = {"operator": 200, "node-agent": 130}


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The Debian layer, twice, in folders of other names; at the same time, so that the mirror is the same."""
    folders = (tmp_path_factory.mktemp("a") / "system", tmp_path_factory.mktemp("another-folder") / "system")
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(images.build_system, folders))
    return folders


@pytest.fixture(scope="module", params=images.SOURCES, ids=lambda source: source.name)
def twice(request: pytest.FixtureRequest, systems: tuple[Path, Path]) -> tuple[BuiltImage, BuiltImage]:
    """An image, and the same once more."""
    one, other = (images.build_image(request.param, each.parent / request.param.name, each) for each in systems)
    return one, other


def test_two_builds_give_one_digest(twice: tuple[BuiltImage, BuiltImage]) -> None:
    one, other = twice
    assert [layer.digest for layer in one.layers] == [layer.digest for layer in other.layers]
    assert one.materials.read_bytes() == other.materials.read_bytes()
    assert one.update() == other.update()


def test_an_image_is_small_and_holds_no_trace_of_its_build(twice: tuple[BuiltImage, BuiltImage]) -> None:
    image, _ = twice
    megabytes = sum(layer.path.stat().st_size for layer in image.layers) >> 20
    print(f"{image.source.name}: {[layer.path.stat().st_size >> 20 for layer in image.layers]} MB")
    assert megabytes < BUDGETS[image.source.name]
    for layer in image.layers:
        with tarfile.open(layer.path) as archive:
            for member in archive:
                assert member.mtime in (0, images.EPOCH), member.name
                assert "/var/log/" not in member.name, member.name
                assert not member.name.endswith("/RECORD"), member.name


def test_the_bill_of_materials_names_every_library_at_its_locked_version(twice: tuple[BuiltImage, BuiltImage]) -> None:
    image, _ = twice
    components = json.loads(image.materials.read_text())["components"]
    found = {each["purl"] for each in components}
    locked = {f"pkg:pypi/{line.split()[0].replace('==', '@')}" for line in image.source.locked()}
    assert len(locked) > 5
    assert {purl for purl in found if purl.startswith("pkg:pypi/")} == locked
    assert {"python3", "libc6", "util-linux"} <= {each["name"] for each in components}


def test_python_of_an_image_finds_everything_compiled(twice: tuple[BuiltImage, BuiltImage]) -> None:
    image, _ = twice
    for layer in image.layers:
        with tarfile.open(layer.path) as archive:
            names = set(archive.getnames())
        modules = {name for name in names if name.endswith(".py") and "/lib/python3" in name}
        assert modules
        assert not {name for name in modules if compiled(name) not in names}


def test_the_program_runs_in_its_image_as_its_user_with_nothing_to_write_to(
    twice: tuple[BuiltImage, BuiltImage], tmp_path: Path
) -> None:
    image, _ = twice
    root = tmp_path / "root"
    root.mkdir()
    for layer in image.layers:
        subprocess.run(["tar", "-C", str(root), "-xf", str(layer.path)], check=True, timeout=300)
    user = image.source.containerfile.user or "0:0"
    script = 'mount --bind -o ro "$1" "$1" && shift && exec chroot "$@"'
    command = [f"--userspec={user}", str(root), *image.source.containerfile.entrypoint, "--help"]
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-ec", script, "image", str(root), *command],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["usage:", image.source.program]), done.stderr


def compiled(module: str) -> str:
    """Where the compiled form of a module is."""
    folder, _, name = module.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-313.pyc"
