"""Images as archives: what is in them, and that an update leaves out what the receiver has."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from lab.ociarchive import Image, Layer


@pytest.fixture()
def image(tmp_path: Path) -> Image:
    layers = []
    for name, size in (("base", 3000), ("code", 512)):
        path = tmp_path / name
        path.write_bytes(name.encode() * (size // 4))
        layers.append(Layer.of(path))
    return Image("example.dev/agent:dev", tuple(layers), ("/agent",), ("A=b",))


def contents(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_every_blob_is_named_by_its_digest_and_found_from_the_index(image: Image, tmp_path: Path) -> None:
    image.write(tmp_path / "image.tar")
    files = contents((tmp_path / "image.tar").read_bytes())
    blobs = {name.removeprefix("blobs/sha256/"): data for name, data in files.items() if name.startswith("blobs/")}
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in blobs.items())
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "example.dev/agent:dev"
    manifest = json.loads(blobs[entry["digest"].removeprefix("sha256:")])
    for descriptor in (entry, manifest["config"], *manifest["layers"]):
        assert len(blobs[descriptor["digest"].removeprefix("sha256:")]) == descriptor["size"]
    config = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    assert config["rootfs"]["diff_ids"] == [layer.digest for layer in image.layers]
    assert config["config"]["Entrypoint"] == ["/agent"]
    assert "A=b" in config["config"]["Env"]


def test_an_update_is_the_same_image_without_the_layers_that_are_there(image: Image) -> None:
    base, code = image.layers
    whole, update = contents(b"".join(image.pieces())), contents(b"".join(image.pieces(without={base.digest})))
    assert set(whole) - set(update) == {f"blobs/sha256/{base.digest.removeprefix('sha256:')}"}
    assert f"blobs/sha256/{code.digest.removeprefix('sha256:')}" in update
    assert update["index.json"] == whole["index.json"]


def test_the_same_image_gives_the_same_archive(image: Image) -> None:
    assert b"".join(image.pieces()) == b"".join(image.pieces())
