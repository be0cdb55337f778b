"""Throw-away certificates and kubeconfigs of one control plane. Made once per folder, then only read."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# what QEMU's user network calls the machine itself, and every guest behind such a network
HOST_FROM_GUEST = "10.0.2.2"
GUEST_ADDRESS = "10.0.2.15"
# the first address of the service range: what pods are told is the API server
SERVICE_ADDRESS = "10.0.0.1"
# a restored guest's clock may be behind the machine's for a moment
BACKDATED = datetime.timedelta(days=2)
VALIDITY = datetime.timedelta(days=3650)

API_SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
API_SERVER_ADDRESSES = ("127.0.0.1", HOST_FROM_GUEST, SERVICE_ADDRESS)
KUBELET_CLIENT_USER = "kube-apiserver-kubelet-client"


@dataclass(frozen=True)
class Pki:
    """One control plane's certificates: the files `NAME.crt`, `NAME.key`, `NAME.kubeconfig` of a folder."""

    folder: Path

    @classmethod
    def ensure(cls, folder: Path, nodes: Sequence[str]) -> Pki:
        """The certificates in `folder`, made if they aren't all there."""
        done = folder / "nodes"
        wanted = "\n".join(nodes)
        if not done.exists() or done.read_text() != wanted:
            _make(folder, nodes)
            done.write_text(wanted)
        return cls(folder)

    def certificate(self, name: str) -> Path:
        """The certificate `name`, as PEM."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """The private key `name`, as PEM."""
        return self.folder / f"{name}.key"

    @property
    def ca(self) -> Path:
        """The certificate of the authority that signed all the others."""
        return self.certificate("ca")

    def kubeconfig(self, name: str, server: str, path: Path | None = None) -> Path:
        """Write a kubeconfig for the client certificate `name`, with everything inside it, and return it."""
        user = {
            "client-certificate-data": _base64(self.certificate(name)),
            "client-key-data": _base64(self.key(name)),
        }
        path = path or self.folder / f"{name}.kubeconfig"
        self.write_kubeconfig(path, name, server, user)
        return path

    def write_kubeconfig(
        self, path: Path, name: str, server: str, user: dict[str, str], namespace: str = "default"
    ) -> None:
        """Write a kubeconfig for any kind of credential, readable by its owner only."""
        cluster = {"server": server, "certificate-authority-data": _base64(self.ca)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name, "namespace": namespace}}],
            "current-context": "lab",
        }
        _write_private(path, yaml.safe_dump(document, sort_keys=False).encode())


def _make(folder: Path, nodes: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _Authority.create(folder)
    authority.server("apiserver", API_SERVER_NAMES, API_SERVER_ADDRESSES)
    authority.client(KUBELET_CLIENT_USER, KUBELET_CLIENT_USER)
    # the group that RBAC can't refuse anything
    authority.client("admin", "admin", "system:masters")
    authority.client("kube-controller-manager", "system:kube-controller-manager")
    authority.client("kube-scheduler", "system:kube-scheduler")
    for node in nodes:
        # user and group that the Node authorizer and NodeRestriction go by
        authority.client(node, f"system:node:{node}", "system:nodes")
        authority.server(f"{node}-serving", (node,), (GUEST_ADDRESS,), f"system:node:{node}")
    _write_private(folder / "service-accounts.key", _pem(ec.generate_private_key(ec.SECP256R1())))


@dataclass(frozen=True)
class _Authority:
    folder: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, folder: Path) -> _Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("storagepair-lab-ca")
        authority = cls(folder, name, key)
        usage = _key_usage(key_cert_sign=True, crl_sign=True)
        builder = (
            authority._builder(name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        authority._sign("ca", builder, key)
        return authority

    def client(self, file: str, user: str, group: str | None = None) -> None:
        """A client certificate: Kubernetes reads the user from CN and the group from O."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._sign(file, self._leaf(_name(user, group), key, ExtendedKeyUsageOID.CLIENT_AUTH), key)

    def server(self, file: str, names: Iterable[str], addresses: Iterable[str], user: str | None = None) -> None:
        """A serving certificate for these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        builder = self._leaf(_name(user or file), key, ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        self._sign(file, builder, key)

    def _leaf(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, usage: x509.ObjectIdentifier
    ) -> x509.CertificateBuilder:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            self._builder(subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(issuer, critical=False)
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + VALIDITY)
            # without it strict verifiers (Python 3.13's default) refuse the chain
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    def _sign(self, file: str, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> None:
        certificate = builder.sign(self.key, hashes.SHA256())
        (self.folder / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_private(self.folder / f"{file}.key", _pem(key))


def _name(common_name: str, organization: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # not PKCS8: the API server finds no public key in that (--service-account-key-file)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _write_private(path: Path, content: bytes) -> None:
    # the mode is set before the content is there
    path.touch(mode=0o600)
    path.write_bytes(content)
