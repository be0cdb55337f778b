"""Container images from plain layer archives, without a registry or an engine: OCI archives, as `ctr`, `podman` and
`skopeo` import them."""

from __future__ import annotations

import hashlib
import json
import platform
import tarfile
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_EPOCH = "1970-01-01T00:00:00Z"
_SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TYPES = "application/vnd.oci.image"


@dataclass(frozen=True)
class Layer:
    """One layer: an uncompressed tar archive and its digest."""

    path: Path
    digest: str

    @classmethod
    def of(cls, path: Path) -> Layer:
        """The layer in the file `path`."""
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return cls(path, f"sha256:{digest.hexdigest()}")


@dataclass(frozen=True)
class Image:
    """An image under its full name (`registry/name:tag`): layers from the lowest up, and what a container runs."""

    name: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    user: str = ""

    def write(self, target: Path, *, without: Container[str] = ()) -> None:
        """Write the archive, without the layers whose digest is in `without`: whoever imports it has those."""
        with target.open("wb") as stream:
            stream.writelines(self.pieces(without=without))

    def pieces(self, *, without: Container[str] = ()) -> Iterator[bytes]:
        """The archive in pieces; see `write`."""
        config = self._config()
        manifest = _document(
            "manifest.v1+json",
            config=_descriptor("config.v1+json", config),
            layers=[
                {"mediaType": f"{_TYPES}.layer.v1.tar", "digest": each.digest, "size": each.path.stat().st_size}
                for each in self.layers
            ],
        )
        names = {"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": self.name.split(":")[-1]}
        entry = _descriptor("manifest.v1+json", manifest) | {"annotations": names}
        yield from _member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        yield from _member("index.json", _document("index.v1+json", manifests=[entry]))
        for blob in (manifest, config):
            yield from _member(_blob(_digest(blob)), blob)
        for layer in self.layers:
            if layer.digest not in without:
                yield from _file_member(_blob(layer.digest), layer.path)
        yield b"\0" * (2 * tarfile.BLOCKSIZE)

    def _config(self) -> bytes:
        running: dict[str, object] = {
            "Entrypoint": list(self.entrypoint),
            "Env": [_SEARCH_PATH, *self.environment],
        }
        if self.user:
            running["User"] = self.user
        document = {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": _EPOCH,
            "config": running,
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in self.layers]},
            "history": [{"created": _EPOCH, "created_by": "storagepair"} for _ in self.layers],
        }
        return json.dumps(document, sort_keys=True).encode()


def _document(kind: str, **content: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": f"{_TYPES}.{kind}", **content}, sort_keys=True).encode()


def _descriptor(kind: str, content: bytes) -> dict[str, object]:
    return {"mediaType": f"{_TYPES}.{kind}", "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _member(name: str, content: bytes) -> Iterator[bytes]:
    yield _header(name, len(content))
    yield content + _padding(len(content))


def _file_member(name: str, path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield _header(name, size)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
    yield _padding(size)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return b"\0" * (-size % tarfile.BLOCKSIZE)
