"""The container images of the operator and the node agent, made here without a registry or an engine.

Three layers: Debian, which both share; the locked wheels; our code. Guests keep the lower two and get only the last
one when the code changes (`BuiltImage.update`). Building them again gives the same digests (`build_image`).
`python -m lab.images FOLDER` writes both images as OCI archives, each with its bill of materials beside it.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from packaging.requirements import Requirement

from lab import cache, containerfile, debian
from lab.containerfile import Containerfile
from lab.ociarchive import Image, Layer

TAG = "dev"
_REGISTRY = "storagepair.dev"
_SUITE = "trixie"
_PYTHON = "3.13"
_SITE = f"usr/local/lib/python{_PYTHON}/dist-packages"
_REPOSITORY = Path(__file__).resolve().parents[2]
_ASSEMBLE = _REPOSITORY / "images" / "storagepair_images" / "assemble.py"
_SBOM = _REPOSITORY / "images" / "storagepair_images" / "sbom.py"
# any fixed day does: Debian's tools take 0 for "not set"
EPOCH = 1735689600
# whose content is the moment of the build, or what apt and dpkg keep for their own next run
_LEFT_OUT = ("./dev/*", "./var/cache/*", "./var/log/*", "./var/lib/apt/lists/*", "./var/lib/dpkg/*-old", "./tmp/*")
_TIMEOUT_SECONDS = 900


class ImageError(Exception):
    """The image can't be made; the message says why."""


@dataclass(frozen=True)
class Source:
    """Where an image comes from: the folder with its Containerfile, which is also its name."""

    name: str

    @property
    def program(self) -> str:
        """The program that it runs."""
        return f"storagepair-{self.name}"

    @property
    def requirements(self) -> Path:
        """The locked wheels."""
        return _REPOSITORY / "requirements" / f"{self.name}.txt"

    def locked(self) -> list[str]:
        """The wheels of the image, as lines of a lock."""
        return for_python(_PYTHON, self.requirements.read_text())

    @cached_property
    def containerfile(self) -> Containerfile:
        """What users build it from."""
        return containerfile.parse((_REPOSITORY / self.name / "Containerfile").read_text())

    def files(self) -> Iterator[Path]:
        """All files of the repository that its code layer is made of."""
        for source in self.containerfile.sources:
            path = _REPOSITORY / source
            found = [path] if path.is_file() else (each for each in path.rglob("*") if each.is_file())
            yield from sorted(each for each in found if "__pycache__" not in each.parts)


def for_python(version: str, lock: str) -> list[str]:
    """The lines of `lock` that are for this Python on this machine, `NAME==VERSION --hash=...`, without their markers.

    pip judges markers (`; python_full_version < '3.13'`) by the Python that runs it, whatever it installs for.
    """
    environment = {"python_version": version, "python_full_version": f"{version}.0"}
    lines = []
    for line in lock.replace("\\\n", " ").splitlines():
        said, hashes, rest = line.partition("--hash")
        if hashes:
            marker = Requirement(said).marker
            if marker is None or marker.evaluate(environment):
                lines.append(f"{said.partition(';')[0].strip()} {hashes}{rest}")
    return lines


OPERATOR = Source("operator")
AGENT = Source("node-agent")
SOURCES = (OPERATOR, AGENT)


@dataclass(frozen=True)
class BuiltImage:
    """An image's layers, and the file with its bill of materials."""

    source: Source
    layers: tuple[Layer, Layer, Layer]
    materials: Path

    def image(self, tag: str = TAG) -> Image:
        """The image under the name by which the manifests of the lab know it."""
        said = self.source.containerfile
        name = f"{_REGISTRY}/{self.source.name}:{tag}"
        return Image(name, self.layers, said.entrypoint, said.environment, said.user)

    def update(self, tag: str = TAG) -> bytes:
        """The image as an archive for who has the lower layers already: a few hundred KB."""
        return b"".join(self.image(tag).pieces(without={each.digest for each in self.layers[:2]}))


def built(source: Source) -> BuiltImage:
    """The image with the code as it is in this checkout, its layers built first if they aren't in the cache."""
    system, wheels = _debian(), _wheels(source)
    inputs: dict[str, cache.KeyInput] = {"below": _digest(wheels), "sources": _fingerprint(source), "sbom.py": _SBOM}
    folder = cache.artifact(f"{source.name}-code", inputs, lambda target: _build_code(target, source, system, wheels))
    layers = (_layer(system), _layer(wheels), Layer.of(folder / "layer.tar"))
    return BuiltImage(source, layers, folder / "materials.json")


def base_image(source: Source) -> Image:
    """The lower layers as an image of their own: what guests keep when the code changes."""
    return Image(f"{_REGISTRY}/{source.name}-base:{TAG}", (_layer(_debian()), _layer(_wheels(source))))


def build_system(folder: Path) -> None:
    """Build the Debian layer in `folder`, whatever the cache has."""
    folder.mkdir(parents=True)
    _build_debian(folder, _packages(OPERATOR))


def build_image(source: Source, folder: Path, system: Path) -> BuiltImage:
    """Build the other two layers in `folder`, on the Debian layer in `system`, whatever the cache has."""
    wheels, code = folder / "wheels", folder / "code"
    for step in (wheels, code):
        step.mkdir(parents=True)
    _build_wheels(wheels, source, system)
    _build_code(code, source, system, wheels)
    layers = (_layer(system), _layer(wheels), Layer.of(code / "layer.tar"))
    return BuiltImage(source, layers, code / "materials.json")


# --- the layers, each in a folder with `layer.tar` ---------------------------------------------------------------


def _debian() -> Path:
    """The lowest layer, and the root file system that it was made of, `root`."""
    packages = _packages(OPERATOR)
    if any(_packages(each) != packages for each in SOURCES):
        raise ImageError("the images share their lowest layer: their Containerfiles must name the same PACKAGES")
    inputs: dict[str, cache.KeyInput] = {
        "debian": repr(_mmdebstrap(packages, "", Path(), {})),
        "left out": repr(_LEFT_OUT),
        "assemble.py": _ASSEMBLE,
    }
    return cache.artifact("image-debian", inputs, lambda folder: _build_debian(folder, packages))


def _wheels(source: Source) -> Path:
    system = _debian()
    inputs: dict[str, cache.KeyInput] = {
        "debian": _digest(system),
        "requirements": repr(source.locked()),
        "assemble.py": _ASSEMBLE,
    }
    return cache.artifact(f"{source.name}-wheels", inputs, lambda folder: _build_wheels(folder, source, system))


def _build_debian(folder: Path, packages: tuple[str, ...]) -> None:
    root = folder / "root"
    with cache.step("making the Debian layer of the container images (once)"):
        command = _mmdebstrap(packages, debian.machine_mirror(), root, debian.machine_options())
        debian.run_mmdebstrap(command, folder / "mmdebstrap.log", epoch=EPOCH)
        # Python's own modules are compiled by their package, which has them checked by their time at every start
        _compile(root, root)
        left_out = [f"--exclude={each}" for each in _LEFT_OUT]
        order = ["--sort=name", "--numeric-owner", "--format=gnu", f"--mtime=@{EPOCH}"]
        _run(["tar", "-C", str(root), *order, *left_out, "-cf", str(folder / "layer.tar"), "."])
    _seal(folder)


def _build_wheels(folder: Path, source: Source, system: Path) -> None:
    """The locked wheels, for the image's Python and not for the one that runs this."""
    tree, wanted = folder / "tree", folder / "requirements.txt"
    wanted.write_text("\n".join(source.locked()))
    machine = platform.machine()
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in (28, 17)]
    with cache.step(f"making the layer of the {source.name}'s libraries (once)"):
        _run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes", f"--target={tree / _SITE}"),
                *("--implementation=cp", f"--python-version={_PYTHON}", f"--platform=manylinux2014_{machine}"),
                *(*platforms, "-r", str(wanted)),
            ]
        )
        _compile(tree, system / "root")
        _pack(tree, folder / "layer.tar")
    _seal(folder)


def _build_code(folder: Path, source: Source, system: Path, wheels: Path) -> None:
    tree, root = folder / "tree", system / "root"
    _run([sys.executable, "-B", str(_ASSEMBLE), "place", source.program, str(_REPOSITORY), str(tree)])
    _compile(tree, root)
    _pack(tree, folder / "layer.tar")
    materials = [str(_SBOM), source.program, str(root), str(wheels / "tree"), str(tree)]
    (folder / "materials.json").write_text(_run([sys.executable, "-B", *materials]))
    shutil.rmtree(tree)


def _compile(tree: Path, root: Path) -> None:
    """Compile all below `tree` by the image's own Python, at the same place each time: an own mount on its /mnt."""
    script = 'mount --bind "$1" "$2/mnt" && exec chroot "$2" /usr/bin/python3 -B - compile /mnt'
    private = ["unshare", "--mount", "/bin/sh", "-ec", script, "compile", str(tree), str(root)]
    # the order of what is in a set is in a compiled module too
    _run(["env", "PYTHONHASHSEED=0", *private], stdin=_ASSEMBLE.read_text())


def _pack(tree: Path, layer: Path) -> None:
    with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(tree, ".", filter=_reproducible)


def _reproducible(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    # what a checkout records is only the executable bit
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _seal(folder: Path) -> None:
    # a layer of a hundred megabytes need not be read each time
    (folder / "digest").write_text(Layer.of(folder / "layer.tar").digest)


def _digest(folder: Path) -> str:
    return (folder / "digest").read_text()


def _layer(folder: Path) -> Layer:
    return Layer(folder / "layer.tar", _digest(folder))


def _packages(source: Source) -> tuple[str, ...]:
    return tuple(source.containerfile.argument("PACKAGES").split())


def _mmdebstrap(packages: tuple[str, ...], mirror: str, root: Path, options: Mapping[str, str]) -> list[str]:
    # nothing is ever installed in an image: it goes without apt, but not without the licences
    kept = ("/usr/share/doc/*/copyright",)
    return debian.mmdebstrap_command(_SUITE, mirror, root, packages, options, variant="essential", kept_paths=kept)


def _fingerprint(source: Source) -> str:
    digest = hashlib.sha256()
    for file in source.files():
        digest.update(f"{file.relative_to(_REPOSITORY)} {file.stat().st_mode & 0o100:o}\n".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _run(command: Sequence[str], *, stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    if done.returncode != 0:
        output = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise ImageError(f"{' '.join(command[:3])} ... ended with {done.returncode}: {output}")
    return done.stdout


def main(arguments: Sequence[str]) -> int:
    """Write both images and their bills of materials to the folder that is named."""
    if len(arguments) != 1:
        print("usage: python -m lab.images FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        made = built(source)
        made.image().write(folder / f"{source.program}.tar")
        shutil.copyfile(made.materials, folder / f"{source.program}.cdx.json")
        print(f"{made.image().name} {folder / source.program}.tar")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
