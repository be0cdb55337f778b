"""A Debian root file system from the machine's own package mirror, made by mmdebstrap.

Nothing here names a mirror or a proxy: both come from the machine's apt configuration.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

SUITES = ("trixie", "bookworm")
TIMEOUT_SECONDS = 1800

# one image serves as storage node and as initiator
PACKAGES = (
    "ca-certificates",
    "containernetworking-plugins",
    "dbus",
    "drbd-utils",
    "e2fsprogs",
    "heartbeat",
    "iproute2",
    "iputils-arping",
    "iputils-ping",
    "kmod",
    "linux-image-amd64",
    "netbase",
    "nftables",
    "open-iscsi",
    "openssh-server",
    "procps",
    "python3-minimal",
    "runc",
    "systemd-sysv",
    "tgt",
    "udev",
    "util-linux",
    "xfsprogs",
)

_EXCLUDED_PATHS = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")

# how this machine talks to its mirror must hold for the guest's packages too
_INHERITED_OPTIONS = (
    "Acquire::Check-Date",
    "Acquire::Check-Valid-Until",
    "Acquire::Retries",
    "Acquire::http::Proxy",
    "Acquire::https::CAInfo",
    "Acquire::https::Proxy",
)


class DebianError(Exception):
    """The root file system cannot be made; the message says what is missing."""


def parse_mirror(index_targets: str, codename: str) -> str | None:
    """The mirror of `codename` main in the output of `apt-get indextargets` (URI, release, component)."""
    for line in index_targets.splitlines():
        fields = line.split()
        if fields[1:] == [codename, "main"]:
            return fields[0].rstrip("/")
    return None


def machine_mirror() -> str:
    """The Debian mirror that this machine's own packages come from."""
    codename = _os_release().get("VERSION_CODENAME", "")
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    mirror = parse_mirror(targets.stdout, codename)
    if mirror is None:
        raise DebianError(f"no apt source of {codename or 'this system'} with component main: is this Debian?")
    return mirror


def parse_options(apt_config_dump: str) -> dict[str, str]:
    """The inherited apt options in the output of `apt-config dump`."""
    found = {}
    for name, value in re.findall(r'^(\S+) "(.*)";$', apt_config_dump, flags=re.MULTILINE):
        if name in _INHERITED_OPTIONS and value:
            found[name] = value
    return found


def machine_options() -> dict[str, str]:
    """This machine's apt options that matter for reaching its mirror."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True, timeout=60)
    return parse_options(dump.stdout)


def mmdebstrap_command(
    suite: str,
    mirror: str,
    target: Path,
    packages: Iterable[str],
    options: Mapping[str, str],
    *,
    variant: str = "minbase",
    kept_paths: Iterable[str] = (),
) -> list[str]:
    """The command that makes the root file system `target` (a tar archive).

    `variant` is mmdebstrap's, `kept_paths` are files in the documentation that stay.
    """
    apt = {"APT::Install-Recommends": "false", **options}
    command = ["mmdebstrap", f"--variant={variant}", f"--include={','.join(packages)}"]
    command += [f'--aptopt={name} "{value}"' for name, value in sorted(apt.items())]
    command += [f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED_PATHS]
    command += [f"--dpkgopt=path-include={path}" for path in kept_paths]
    return [*command, suite, str(target), mirror]


def build_rootfs(suite: str, target: Path, log: Path, packages: Iterable[str] = PACKAGES) -> None:
    """Make the root file system of the lab's machines as `target`: a tar archive if it is called so, else a folder."""
    if suite not in SUITES:
        raise DebianError(f"unknown suite {suite!r}: choose from {', '.join(SUITES)}")
    run_mmdebstrap(mmdebstrap_command(suite, machine_mirror(), target, packages, machine_options()), log)


def run_mmdebstrap(command: list[str], log: Path, *, epoch: int = 0) -> None:
    """Run such a command. With `epoch` (seconds) nothing in it is newer, and what would be random is not."""
    # the kernel package would build an initramfs, slowly, that nobody boots
    environment = os.environ | {"INITRD": "No"} | ({"SOURCE_DATE_EPOCH": str(epoch)} if epoch else {})
    with log.open("wb") as stream:
        done = subprocess.run(
            command, env=environment, stdout=stream, stderr=stream, check=False, timeout=TIMEOUT_SECONDS
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise DebianError(f"mmdebstrap failed ({log}):\n{tail}")


def _os_release() -> dict[str, str]:
    pairs = (line.partition("=") for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {name: "".join(shlex.split(value)) for name, _, value in pairs}
