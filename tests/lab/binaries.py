"""The programs of a Kubernetes cluster: from KUBEBUILDER_ASSETS, or built once from their Go modules.

Nothing is vendored and no binary is downloaded: `kubernetes/go.mod` and `containerd/go.mod` beside this file
pin the versions, `go build` does the rest. The result goes to the cache as artifacts of their own, so that a control
plane can start while what only real nodes need is still being built. What tests ask the kstatus library with comes the
same way.

`python -m lab.binaries [NAME ...]` builds what is missing (everything without a name) and prints the paths.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import cache

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"

_HERE = Path(__file__).resolve().parent
_COMMANDS = "k8s.io/kubernetes/cmd"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
# nothing of the machine's Go settings may matter, save where modules come from (GOPROXY and friends).
# GOFLAGS is set and not emptied: Go falls back to its settings file for an empty variable.
_GO_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-mod=readonly",
    "GOOS": "linux",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}
_DROPPED_VARIABLES = ("GOARCH", "GOBIN", "GOEXPERIMENT", "GO111MODULE")


def kubernetes_version() -> str:
    """The version of Kubernetes that the lab's go.mod pins, such as 1.37.2."""
    pinned = re.search(r"k8s\.io/kubernetes v([\d.]+)", (_HERE / "kubernetes" / "go.mod").read_text())
    assert pinned is not None, "kubernetes/go.mod requires no k8s.io/kubernetes"
    return pinned[1]


def _kubernetes_ldflags() -> str:
    """What Kubernetes' own build script sets: without it the programs call themselves v0.0.0-master."""
    version = kubernetes_version()
    major, minor, _ = version.split(".")
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s", "-w", *(f"-X k8s.io/component-base/version.{k}={v}" for k, v in values.items())])


class BinariesError(Exception):
    """The programs can't be had; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Bundle:
    """Programs that are built together into one artifact from one Go module."""

    name: str
    module: Path
    packages: Mapping[str, str]
    ldflags: str
    tags: str = ""
    sources: tuple[Path, ...] = ()  # of our own; go.sum pins all the others


BUNDLES = (
    Bundle(
        name="kube-apiserver",
        module=_HERE / "kubernetes",
        packages={
            "etcd": "go.etcd.io/etcd/server/v3",
            "kube-apiserver": f"{_COMMANDS}/kube-apiserver",
            "kubectl": f"{_COMMANDS}/kubectl",
        },
        ldflags=_kubernetes_ldflags(),
    ),
    Bundle(
        name="kube-cluster",
        module=_HERE / "kubernetes",
        packages={name: f"{_COMMANDS}/{name}" for name in ("kube-controller-manager", "kube-scheduler", "kubelet")},
        ldflags=_kubernetes_ldflags(),
    ),
    Bundle(
        name="containerd",
        module=_HERE / "containerd",
        packages={name: f"{_CONTAINERD}/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
        ldflags="-s -w",
        tags="no_btrfs no_devmapper no_zfs",
    ),
    Bundle(
        name="kstatus",
        module=_HERE.parent / "api" / "kstatus",
        packages={"kstatus": "storagepair.dev/tests/kstatus"},
        ldflags="-s -w",
        sources=(_HERE.parent / "api" / "kstatus" / "main.go",),
    ),
)
NAMES = tuple(name for bundle in BUNDLES for name in bundle.packages)


def binary(name: str) -> Path:
    """The path of one program, ready to run; built first if need be."""
    bundle = next((each for each in BUNDLES if name in each.packages), None)
    if bundle is None:
        raise BinariesError(f"{name} is not among the lab's programs: {', '.join(NAMES)}")
    return _given(name) or _built(bundle) / name


def binaries(*names: str) -> dict[str, Path]:
    """The paths of several programs (all of them without a name) by name."""
    return {name: binary(name) for name in names or NAMES}


def _given(name: str) -> Path | None:
    """The program in KUBEBUILDER_ASSETS, the ecosystem's convention, where it is set and has it."""
    folder = os.environ.get(ASSETS_VARIABLE)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise BinariesError(f"{ASSETS_VARIABLE} names {folder}, which is not a folder")
    path = Path(folder).absolute() / name
    return path if os.access(path, os.X_OK) else None


def _built(bundle: Bundle) -> Path:
    return cache.artifact(bundle.name, _key_inputs(bundle), lambda folder: _build(bundle, folder))


def _key_inputs(bundle: Bundle) -> dict[str, cache.KeyInput]:
    # Go's own version is left out: a patch release of Go is no reason for a quarter of an hour of building
    return {
        "packages": repr(sorted(bundle.packages.items())),
        "ldflags": bundle.ldflags,
        "tags": bundle.tags,
        "go.mod": bundle.module / "go.mod",
        "go.sum": bundle.module / "go.sum",
        **{path.name: path for path in bundle.sources},
    }


def _build(bundle: Bundle, folder: Path) -> None:
    go = _find_go(bundle)
    options = ["-trimpath", "-buildvcs=false", f"-ldflags={bundle.ldflags}", f"-tags={bundle.tags}"]
    for packages in _together(bundle):
        # one package is named by its file: Go would call etcd's "server"
        output = folder / packages[0] if len(packages) == 1 else folder
        argv = [go, "build", *options, f"-o={output}", *(bundle.packages[name] for name in packages)]
        with cache.step(f"building {', '.join(packages)} from Go modules (once)"):
            _run_go(argv, bundle.module)
    missing = [name for name in bundle.packages if not os.access(folder / name, os.X_OK)]
    if missing:
        raise BinariesError(f"go build went well but made no {', '.join(missing)}")


def _together(bundle: Bundle) -> list[list[str]]:
    """Programs whose package is called like them share one `go build`, which shares their common parts."""
    alike = [name for name, package in bundle.packages.items() if package.endswith(f"/{name}")]
    return [[name] for name in bundle.packages if name not in alike] + [alike]


def _find_go(bundle: Bundle) -> str:
    wanted = re.search(r"^go (\d+(?:\.\d+)*)$", (bundle.module / "go.mod").read_text(), re.MULTILINE)
    assert wanted is not None, f"{bundle.module}/go.mod names no Go version"
    remedy = f"install Go {wanted[1]} or newer, or set {ASSETS_VARIABLE} to a folder with the programs"
    go = shutil.which("go")
    if go is None:
        raise BinariesError(f"go is missing, and {', '.join(bundle.packages)} must be built: {remedy}")
    found = re.search(r"\bgo(\d+(?:\.\d+)*)", _run_go([go, "version"], bundle.module))
    if found is None or _numbers(found[1]) < _numbers(wanted[1]):
        raise BinariesError(f"{go} is Go {found[1] if found else 'of an unknown version'}: {remedy}")
    return go


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _run_go(argv: Sequence[str], module: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in _DROPPED_VARIABLES}
    done = subprocess.run(
        argv,
        cwd=module,
        env=environment | _GO_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-20:])
        raise BinariesError(f"{' '.join(argv[:2])} in {module} ended with {done.returncode}:\n{tail}")
    return done.stdout


def main(names: Sequence[str]) -> int:
    """Build what is missing and print where it all is."""
    try:
        for name, path in binaries(*names).items():
            print(f"{name}\t{path}")
    except BinariesError as error:
        cache.say(f"lab: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
