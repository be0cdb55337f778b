"""The node agent's container image, made here without a registry: Debian with the locked wheels below, our code above.

The upper layer is small and alone changes with the code, so guests keep the lower one and get only the upper
(`AgentImage.update`). `python -m lab.agentimage FILE` writes the whole image as an OCI archive.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import cache, debian
from lab.ociarchive import Image, Layer

NAME = "storagepair.dev/node-agent:dev"
BASE_NAME = "storagepair.dev/node-agent-base:dev"
PROGRAM = "storagepair-node-agent"

_SUITE = "trixie"
_PYTHON = "3.13"
# nsenter is in util-linux
_PACKAGES = ("python3", "util-linux")
_REPOSITORY = Path(__file__).resolve().parents[2]
_REQUIREMENTS = _REPOSITORY / "requirements" / "node-agent.txt"
_SOURCES = (_REPOSITORY / "crds" / "storagepair_crds", _REPOSITORY / "node-agent" / "storagepair_node_agent")
_SITE = f"usr/local/lib/python{_PYTHON}/dist-packages"
_ENTRY = f"""\
#!/usr/bin/python{_PYTHON}
import sys

from storagepair_node_agent.main import main

sys.exit(main())
"""
# everything is compiled beforehand: the agent's start on an emulated machine would spend seconds on it
_COMPILE = ("/usr/bin/python3", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash")
_TIMEOUT_SECONDS = 900


class AgentImageError(Exception):
    """The image can't be made; the message says why."""


@dataclass(frozen=True)
class AgentImage:
    """The image's two layers."""

    base: Layer
    code: Layer

    @property
    def image(self) -> Image:
        """The image that the DaemonSet names."""
        return Image(NAME, (self.base, self.code), (f"/usr/local/bin/{PROGRAM}",), _ENVIRONMENT)

    def update(self) -> bytes:
        """The image as an archive for who has the base image already: a few hundred KB."""
        return b"".join(self.image.pieces(without={self.base.digest}))


_ENVIRONMENT = ("PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1")


def agent_image() -> AgentImage:
    """The image with the code as it is in this checkout, its layers built first if they aren't in the cache."""
    root, base = _base()
    inputs: dict[str, cache.KeyInput] = {"base": base.digest, "sources": _fingerprint(), "entry": _ENTRY}
    folder = cache.artifact("agent-code", inputs, lambda target: _build_code(target, root))
    return AgentImage(base, Layer.of(folder / "layer.tar"))


def base_image() -> Image:
    """The lower layer as an image of its own: what guests keep when the code changes."""
    return Image(BASE_NAME, (_base()[1],))


def _base() -> tuple[Path, Layer]:
    """The lower layer, and the root file system that it was made of."""
    inputs: dict[str, cache.KeyInput] = {
        "debian": repr(debian.mmdebstrap_command(_SUITE, "", Path(), _PACKAGES, {})),
        "requirements": _REQUIREMENTS,
        "version": "1",
    }
    folder = cache.artifact("agent-base", inputs, _build_base)
    return folder / "root", Layer(folder / "layer.tar", (folder / "digest").read_text())


def _build_base(folder: Path) -> None:
    root, layer = folder / "root", folder / "layer.tar"
    with cache.step("making the base of the node agent's image (once)"):
        debian.build_rootfs(_SUITE, root, folder / "mmdebstrap.log", packages=_PACKAGES)
        _install_wheels(root / _SITE)
        _run(["chroot", str(root), *_COMPILE, f"/{_SITE}"])
        for leftover in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / leftover, ignore_errors=True)
        _run(["tar", "-C", str(root), "--numeric-owner", "--exclude=./dev/*", "-cf", str(layer), "."])
    (folder / "digest").write_text(Layer.of(layer).digest)


def _install_wheels(site: Path) -> None:
    """The locked wheels, for the image's Python and not for the one that runs this."""
    machine = platform.machine()
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in (28, 17)]
    _run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes", f"--target={site}"),
            *("--implementation=cp", f"--python-version={_PYTHON}", f"--platform=manylinux2014_{machine}", *platforms),
            *("-r", str(_REQUIREMENTS)),
        ]
    )


def _build_code(folder: Path, root: Path) -> None:
    tree = folder / "tree"
    site = tree / _SITE
    for source in _SOURCES:
        shutil.copytree(source, site / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    # nothing of this machine's file system may matter: the paths in the compiled files are the image's
    script = 'mount --bind "$1" "$2/mnt" && exec chroot "$2" "$3" -m compileall -q "$4" -s /mnt -p / /mnt'
    private = ["unshare", "--mount", "/bin/sh", "-ec", script, "compile", str(tree), str(root)]
    _run([*private, _COMPILE[0], _COMPILE[-1]])
    _write_metadata(site)
    entry = tree / "usr/local/bin" / PROGRAM
    entry.parent.mkdir(parents=True)
    entry.write_text(_ENTRY)
    entry.chmod(0o755)
    with tarfile.open(folder / "layer.tar", "w") as archive:
        archive.add(tree, ".", filter=_reproducible)
    shutil.rmtree(tree)


def _write_metadata(site: Path) -> None:
    """What `importlib.metadata` needs to tell the agent its own version."""
    version = re.search(r'^version = "(.+)"$', (_REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None, "pyproject.toml names no version"
    folder = site / f"storagepair-{version[1]}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: storagepair\nVersion: {version[1]}\n")


def _reproducible(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    # what a checkout records is only the executable bit
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _fingerprint() -> str:
    digest = hashlib.sha256((_REPOSITORY / "pyproject.toml").read_bytes())
    for file in _source_files():
        digest.update(f"{file.relative_to(_REPOSITORY)} {file.stat().st_mode & 0o100:o}\n".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _source_files() -> Iterator[Path]:
    for source in _SOURCES:
        files = (each for each in source.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
        yield from sorted(files)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
    )
    if done.returncode != 0:
        output = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise AgentImageError(f"{' '.join(command[:3])} ... ended with {done.returncode}: {output}")


def main(arguments: Sequence[str]) -> int:
    """Write the image to the file that is named."""
    if len(arguments) != 1:
        print("usage: python -m lab.agentimage FILE", file=sys.stderr)
        return 2
    agent_image().image.write(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
