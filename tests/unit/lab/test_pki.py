"""The throw-away certificates say what Kubernetes goes by."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID
from lab.pki import Pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.ensure(tmp_path_factory.mktemp("pki"), ["node1", "node2"])


def load(pki: Pki, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.certificate(name).read_bytes())


def value(name: x509.Name, oid: x509.ObjectIdentifier) -> str | bytes | None:
    found = name.get_attributes_for_oid(oid)
    return found[0].value if found else None


@pytest.mark.parametrize(
    ("name", "user", "group"),
    [
        ("admin", "admin", "system:masters"),
        ("node2", "system:node:node2", "system:nodes"),
        ("kube-scheduler", "system:kube-scheduler", None),
        ("kube-controller-manager", "system:kube-controller-manager", None),
    ],
)
def test_client_certificates_name_user_and_group(pki: Pki, name: str, user: str, group: str | None) -> None:
    certificate = load(pki, name)
    assert value(certificate.subject, NameOID.COMMON_NAME) == user
    assert value(certificate.subject, NameOID.ORGANIZATION_NAME) == group
    certificate.verify_directly_issued_by(load(pki, "ca"))


def test_serving_certificates_name_what_clients_dial(pki: Pki) -> None:
    extension = load(pki, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert "kubernetes.default.svc" in extension.value.get_values_for_type(x509.DNSName)
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    assert {str(address) for address in addresses} == {"127.0.0.1", "10.0.2.2", "10.0.0.1"}
    kubelet = load(pki, "node1-serving").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert kubelet.value.get_values_for_type(x509.DNSName) == ["node1"]


def test_they_are_made_once(pki: Pki) -> None:
    before = pki.ca.read_bytes()
    Pki.ensure(pki.folder, ["node1", "node2"])
    assert pki.ca.read_bytes() == before


def test_a_kubeconfig_is_complete_and_private(pki: Pki, tmp_path: Path) -> None:
    path = pki.kubeconfig("node1", "https://10.0.2.2:1234", tmp_path / "config")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = yaml.safe_load(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://10.0.2.2:1234"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    for key in pki.folder.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
