"""What a Containerfile says of its image: the little that is needed to make the same image without an engine.

Pure. The build steps themselves are not run from here; both ways call images/storagepair_images for what must be
the same.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_ASSIGNMENT = re.compile(r"([A-Z_]+)=(.*)")


class ContainerfileError(Exception):
    """The file can't be understood; the message names the line."""


@dataclass(frozen=True)
class Containerfile:
    """One Containerfile."""

    arguments: tuple[tuple[str, str], ...]
    """The defaults of its ARGs."""

    sources: tuple[str, ...]
    """What it copies from the repository, as paths in it."""

    entrypoint: tuple[str, ...]
    environment: tuple[str, ...]
    user: str
    """Whom a container runs as, `UID:GID`; "" for root."""

    def argument(self, name: str) -> str:
        """The default of the ARG `name`."""
        for each, value in self.arguments:
            if each == name:
                return value
        raise ContainerfileError(f"the Containerfile has no ARG {name}")


def parse(text: str) -> Containerfile:
    """Read a Containerfile; what the last stage says of user, environment and entry point counts."""
    arguments: list[tuple[str, str]] = []
    sources: list[str] = []
    entrypoint: list[str] = []
    environment: list[str] = []
    user = ""
    for word, rest in _instructions(text):
        if word == "ARG":
            name, _, value = rest.partition("=")
            arguments.append((name, "".join(shlex.split(value))))
        elif word == "FROM":
            entrypoint, environment, user = [], [], ""
        elif word == "COPY" and not rest.startswith("--from="):
            sources += rest.split()[:-1]
        elif word == "ENV":
            environment += shlex.split(rest)
        elif word == "USER":
            user = rest
        elif word == "ENTRYPOINT":
            entrypoint = json.loads(rest)
    if not all(_ASSIGNMENT.fullmatch(each) for each in environment):
        raise ContainerfileError(f"ENV {' '.join(environment)}: only NAME=VALUE is understood")
    return Containerfile(tuple(arguments), tuple(dict.fromkeys(sources)), tuple(entrypoint), tuple(environment), user)


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            yield word.upper(), rest.strip()
