"""The command lines of a control plane's programs. Pure: files and a port in, argument lists out.

All of them run in the control plane's folder, so that the unix sockets between etcd and the API server have
short names: nothing but the API server's port is open, and an etcd without authentication is nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.pki import HOST_FROM_GUEST, KUBELET_CLIENT_USER, Pki

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"

ETCD_FOLDER = "etcd"
_ETCD_URL = "unix://etcd.sock"
_ETCD_PEER_URL = "unix://etcd-peer.sock"
SERVICE_RANGE = "10.0.0.0/24"

# what makes a DaemonSet's and a Deployment's pods run with a service account's token on a real node, what forgets
# deleted objects and what completes aggregated roles and the status of admission policies. All the others only cost
# memory.
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "daemonset-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "taint-eviction-controller",
    "validatingadmissionpolicy-status-controller",
)
# the lab freezes kubelets while it times a failover: a node must not be declared lost for that
NODE_GRACE = "600s"

AUDIT_LOG = "audit.log"
AUDIT_POLICY = """\
# only what changes something: tests count the writes of a part that has nothing to do
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, verbs: [get, list, watch]}
- level: None
  resources: [{group: authentication.k8s.io}, {group: authorization.k8s.io}]
# a token is handed out, and nothing is stored
- level: None
  resources: [{group: "", resources: [serviceaccounts/token]}]
- {level: Metadata}
"""


def etcd(program: Path) -> list[str]:
    """etcd on a unix socket. No fsync: the data of a lab need not survive the machine."""
    return [
        str(program),
        "--name=lab",
        f"--data-dir={ETCD_FOLDER}",
        f"--listen-client-urls={_ETCD_URL}",
        f"--advertise-client-urls={_ETCD_URL}",
        f"--listen-peer-urls={_ETCD_PEER_URL}",
        f"--initial-advertise-peer-urls={_ETCD_PEER_URL}",
        f"--initial-cluster=lab={_ETCD_PEER_URL}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


ENVIRONMENT = {"GOGC": "300"}
"""Of each of the programs: less processor time for more memory. With 400 the API server started with a fifth less of
the one and had a quarter more of the other (395 MB)."""


def api_server(program: Path, pki: Pki, port: int, audit_policy: Path, audit_log: Path) -> list[str]:
    """The API server on loopback, with the authorization and admission of a real cluster."""
    return [
        str(program),
        f"--etcd-servers={_ETCD_URL}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        # loopback is refused here; this is where guests reach it, and saves a search for a default route
        f"--advertise-address={HOST_FROM_GUEST}",
        f"--tls-cert-file={pki.certificate('apiserver')}",
        f"--tls-private-key-file={pki.key('apiserver')}",
        f"--client-ca-file={pki.ca}",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-account-key-file={pki.key('service-accounts')}",
        f"--service-account-signing-key-file={pki.key('service-accounts')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        # the node agent is a privileged pod
        "--allow-privileged=true",
        f"--kubelet-client-certificate={pki.certificate(KUBELET_CLIENT_USER)}",
        f"--kubelet-client-key={pki.key(KUBELET_CLIENT_USER)}",
        f"--kubelet-certificate-authority={pki.ca}",
        # guests all have the same address: their names lead to their forwarded ports
        "--kubelet-preferred-address-types=Hostname",
        f"--audit-policy-file={audit_policy}",
        f"--audit-log-path={audit_log}",
    ]


def controller_manager(program: Path, pki: Pki, kubeconfig: Path, node_grace: str) -> list[str]:
    """The controllers that the lab needs, without a port and without an election: there is only one.

    A node whose kubelet is silent for `node_grace` counts as lost.
    """
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        "--secure-port=0",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki.key('service-accounts')}",
        f"--root-ca-file={pki.ca}",
        f"--controllers={','.join(CONTROLLERS)}",
        f"--node-monitor-grace-period={node_grace}",
    ]


def scheduler(program: Path, kubeconfig: Path) -> list[str]:
    """The scheduler, without a port and without an election."""
    return [str(program), f"--kubeconfig={kubeconfig}", "--secure-port=0", "--leader-elect=false"]


def with_own_hosts(argv: Sequence[str], hosts: Path) -> list[str]:
    """Run `argv` with `hosts` as its /etc/hosts, in a mount namespace of its own: the machine's stays."""
    script = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
    return ["unshare", "--mount", "/bin/sh", "-c", script, "with-own-hosts", str(hosts), *argv]


def hosts_file(nodes: Mapping[str, str]) -> str:
    """The content of an /etc/hosts that knows these node names."""
    return "".join(f"{address} {name}\n" for name, address in ({"localhost": "127.0.0.1"} | dict(nodes)).items())
