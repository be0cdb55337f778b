"""An image's bill of materials (CycloneDX 1.6, JSON), from what is installed in its folders.

    sbom.py IMAGE ROOT [TREE...] > IMAGE.cdx.json

Debian's packages are those in ROOT's dpkg database, Python's are all `*.dist-info` below the folders' `usr`. The same
folders give the same document: it has no date and no random serial number. The standard library only, as assemble.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Iterable, Sequence
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any
from urllib.parse import quote

SPECIFICATION = "1.6"
OURS = "storagepair"
_METADATA = "*.dist-info/METADATA"
_DPKG_STATUS = "var/lib/dpkg/status"
_NAMESPACE = uuid.UUID("0f0f9b0e-7a53-5f0e-9a3c-6d0c1f0b5a17")


def document(image: str, version: str, components: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The whole document for `image`, its components in a fixed order."""
    subject = {"type": "container", "name": image, "version": version, "bom-ref": f"container:{image}@{version}"}
    listed = sorted(components, key=lambda each: str(each["bom-ref"]))
    content = json.dumps([subject, listed], sort_keys=True)
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}",
        "version": 1,
        "metadata": {"component": subject},
        "components": listed,
        "dependencies": [{"ref": subject["bom-ref"], "dependsOn": [each["bom-ref"] for each in listed]}],
    }


def debian_packages(status: str, release: dict[str, str]) -> list[dict[str, Any]]:
    """The installed packages in a dpkg database; `release` is the image's /etc/os-release."""
    distribution = "-".join(release.get(key, "") for key in ("ID", "VERSION_ID"))
    found = []
    for stanza in status.split("\n\n"):
        fields = _fields(stanza)
        if fields.get("Status", "").split()[-1:] != ["installed"]:
            continue
        name, version, architecture = (fields[key] for key in ("Package", "Version", "Architecture"))
        where = f"arch={architecture}&distro={quote(distribution)}"
        purl = f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?{where}"
        found.append(_component("library", name, version, purl))
    return found


def python_packages(metadata: Iterable[str]) -> list[dict[str, Any]]:
    """The packages of these METADATA files; ours is an application, the others came from PyPI."""
    found = []
    for text in metadata:
        fields = _fields(text)
        name, version = str(fields["Name"]), str(fields["Version"])
        if name == OURS:
            found.append(_component("application", name, version, f"pkg:generic/{name}@{version}"))
            continue
        # PyPI's own form of a name
        purl = f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version)}"
        component = _component("library", name, version, purl)
        if expression := fields.get("License-Expression"):
            component["licenses"] = [{"expression": expression}]
        found.append(component)
    return found


def of_folders(image: str, root: Path, trees: Sequence[Path] = ()) -> dict[str, Any]:
    """The document for an image whose files are in these folders, the lowest layer first."""
    folders = (root, *trees)
    metadata = [file.read_text() for each in folders for file in sorted((each / "usr").rglob(_METADATA))]
    python = python_packages(metadata)
    ours = next((each["version"] for each in python if each["name"] == OURS), None)
    if ours is None:
        raise SystemExit(f"sbom.py: {OURS} itself is in none of {', '.join(map(str, folders))}")
    lines = (line.partition("=") for line in (root / "etc/os-release").read_text().splitlines())
    release = {key: value.strip('"') for key, _, value in lines}
    return document(image, ours, [*debian_packages((root / _DPKG_STATUS).read_text(), release), *python])


def _component(kind: str, name: str, version: str, purl: str) -> dict[str, Any]:
    return {"type": kind, "name": name, "version": version, "purl": purl, "bom-ref": purl}


def _fields(text: str) -> Message:
    # dpkg's stanzas and Python's metadata are both headers of a mail
    return Parser().parsestr(text, headersonly=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sbom.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image")
    parser.add_argument("root", type=Path)
    parser.add_argument("trees", type=Path, nargs="*")
    options = parser.parse_args(arguments)
    json.dump(of_folders(options.image, options.root, options.trees), sys.stdout, indent=1, sort_keys=True)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
