"""Making a Kubernetes node of a running storage node: its credentials, the way to the API server, the agent's code.

All of it belongs to one lab, so it is not in the machines' image. It is written to the node's disk: after a power cut
everything starts from there by itself.
"""

from __future__ import annotations

import io
import tarfile

from lab.controlplane import ControlPlane
from lab.guest import Guest
from lab.kubelayer import IMAGE_LABEL, NAMESPACE
from lab.machine import HOST_FROM_GUEST
from lab.pki import SERVICE_ADDRESS

# what a node's units read, see kube/root/etc/systemd/system
FOLDER = "/etc/kubernetes"
UNITS = ("kubelet.service", "containerd.service")

# for pods in the node's network, and for those with one of their own (kube/root/etc/cni/net.d)
_SERVICE_RULES = """\
table ip lab-kube-service {{
	chain output {{
		type nat hook output priority -100
		ip daddr {service} tcp dport 443 dnat to {host}:{port}
	}}
	chain prerouting {{
		type nat hook prerouting priority -100
		ip saddr {pods} ip daddr {service} tcp dport 443 dnat to {host}:{port}
	}}
	chain postrouting {{
		type nat hook postrouting priority 100
		ip saddr {pods} ip daddr {host} masquerade
	}}
}}
"""
_PODS = "10.88.0.0/24"
# each pod has a network namespace of its own, where its connections are
_IN_EACH_NETWORK = (
    "for pid in $(lsns --noheadings --type net --output PID); do nsenter --target $pid --net {command}; done"
)
_IMPORT_SECONDS = 300.0


def join(guest: Guest, plane: ControlPlane) -> None:
    """Give the node its credentials and start its kubelet, which registers the Node."""
    address = guest.spec.cluster_address
    files = {
        "kubeconfig": plane.kubeconfig_for_node(guest.name).read_bytes(),
        "ca.crt": plane.pki.ca.read_bytes(),
        "serving.crt": plane.pki.certificate(f"{guest.name}-serving").read_bytes(),
        "serving.key": plane.pki.key(f"{guest.name}-serving").read_bytes(),
        "node.env": f"NODE_IP={address}\n".encode(),
        "service.nft": _service_rules(plane.port).encode(),
    }
    # sync: what is only in the guest's memory does not survive a power cut
    line = f"tar -C {FOLDER} -xf - && sync && systemctl start kubelet.service"
    guest.ssh(line, stdin=_archive(files))


def _service_rules(port: int) -> str:
    return _SERVICE_RULES.format(service=SERVICE_ADDRESS, host=HOST_FROM_GUEST, port=port, pods=_PODS)


def load_image(guest: Guest, archive: bytes) -> None:
    """Import an image, of which the node has the lower layers already. It is on the disk then: containerd
    does not flush what it unpacks (`image_pull_with_sync_fs` is off), and tests cut the power seconds later."""
    command = ["ctr", f"--namespace={NAMESPACE}", "images", "import", f"--label={IMAGE_LABEL}", "-"]
    guest.ssh(command, stdin=archive, timeout=_IMPORT_SECONDS)
    guest.ssh(["sync", "--file-system", "/var/lib/containerd"], timeout=_IMPORT_SECONDS)


def freeze(guest: Guest) -> None:
    """Stop the kubelet and containerd where they are: pods go on, and nothing competes with them for the processor.

    Pods can log only as much as their pipes hold (64 KiB) until they are thawed.
    """
    guest.ssh(["systemctl", "freeze", *UNITS])


def thaw(guest: Guest) -> None:
    """Let them go on; no-op where they do."""
    guest.ssh(["systemctl", "thaw", *UNITS])


def agent_connected(guest: Guest) -> bool:
    """Does the node agent follow its StorageNode? Only its pod goes by the service's address."""
    return bool(guest.ssh(["ss", "-Htn", "state", "established", "dst", SERVICE_ADDRESS]).stdout.strip())


def drop_connections(guest: Guest) -> None:
    """Break the connections to the API server of a machine that was restored: their other ends are gone.

    Nobody would tell their owners, and the agent's watch would be silent for a minute and a half.
    """
    command = f"ss -HK dst {SERVICE_ADDRESS} or dst {HOST_FROM_GUEST}"
    guest.ssh(_IN_EACH_NETWORK.format(command=command))


def _archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
