"""The bill of materials: what is installed is in it, each by its package URL, and the standard's schema agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from storagepair_images import sbom

SCHEMAS = Path(__file__).parents[2] / "data" / "cyclonedx"

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12+deb13u1
Description: GNU C Library: Shared libraries
 Status: this line belongs to the description

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0

Package: g++-14-base
Status: install ok installed
Architecture: amd64
Version: 1:14.2.0-19
"""
WHEEL = "Metadata-Version: 2.4\nName: Jsonschema_Specifications\nVersion: 2025.9.1\nLicense-Expression: MIT\n\nText\n"
OURS = "Metadata-Version: 2.1\nName: storagepair\nVersion: 0.1.0\n"


@pytest.fixture()
def folders(tmp_path: Path) -> tuple[Path, Path]:
    root, tree = tmp_path / "root", tmp_path / "tree"
    for file, text in {
        root / "var/lib/dpkg/status": STATUS,
        root / "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\n',
        tree / "usr/local/lib/python3.13/dist-packages/a.dist-info/METADATA": WHEEL,
        tree / "usr/local/lib/python3.13/dist-packages/b.dist-info/METADATA": OURS,
        # not installed: only lies about
        tree / "home/c.dist-info/METADATA": WHEEL.replace("2025", "2020"),
    }.items():
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return root, tree


def validator() -> Draft7Validator:
    """The standard's own schema, with the two that it refers to."""
    documents = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    # they refer to each other by these names, beside their own identifiers
    named = ((f"http://cyclonedx.org/schema/{name}", Resource.from_contents(each)) for name, each in documents.items())
    main = documents[f"bom-{sbom.SPECIFICATION}.SNAPSHOT.schema.json"]
    return Draft7Validator(main, registry=Registry().with_resources(named))


def problems(document: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator().iter_errors(document)]


def test_what_is_installed_is_listed_by_its_package_url(folders: tuple[Path, Path]) -> None:
    root, tree = folders
    made = sbom.of_folders("storagepair-operator", root, [tree])
    assert [each["purl"] for each in made["components"]] == [
        "pkg:deb/debian/g%2B%2B-14-base@1%3A14.2.0-19?arch=amd64&distro=debian-13",
        "pkg:deb/debian/libc6@2.41-12%2Bdeb13u1?arch=amd64&distro=debian-13",
        "pkg:generic/storagepair@0.1.0",
        "pkg:pypi/jsonschema-specifications@2025.9.1",
    ]
    assert made["metadata"]["component"] | {"bom-ref": ""} == {
        "type": "container",
        "name": "storagepair-operator",
        "version": "0.1.0",
        "bom-ref": "",
    }
    assert made["components"][3]["licenses"] == [{"expression": "MIT"}]


def test_the_standards_schema_accepts_it_and_refuses_a_broken_one(folders: tuple[Path, Path]) -> None:
    made = sbom.of_folders("storagepair-operator", folders[0], [folders[1]])
    assert problems(made) == []
    (first, *others) = made["components"]
    for broken in (
        {**made, "serialNumber": "17"},
        {**made, "components": [{**first, "type": "thing"}, *others]},
        {**made, "components": [first, {**first}]},
    ):
        assert problems(broken)


def test_the_same_folders_give_the_same_document_and_others_another(folders: tuple[Path, Path]) -> None:
    root, tree = folders
    made = sbom.of_folders("storagepair-operator", root, [tree])
    assert sbom.of_folders("storagepair-operator", root, [tree]) == made
    status = root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("deb13u1", "deb13u2"))
    assert sbom.of_folders("storagepair-operator", root, [tree])["serialNumber"] != made["serialNumber"]


def test_an_image_without_our_code_has_no_bill(folders: tuple[Path, Path]) -> None:
    root, _ = folders
    with pytest.raises(SystemExit, match="storagepair itself"):
        sbom.of_folders("storagepair-operator", root)
