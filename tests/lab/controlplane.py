"""A real Kubernetes control plane on loopback, ready in seconds, as many side by side as one likes.

etcd, kube-apiserver and, where wanted, kube-controller-manager and kube-scheduler run as children of a
keeper. Everything else about a control plane is in its folder: any process can open it again by that.
"""

from __future__ import annotations

import contextlib
import http
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab import components
from lab.apiclient import ApiClient, ApiError, ApiUnreachable
from lab.audit import AuditLog
from lab.binaries import binary
from lab.keeper import Keeper, KeeperError, NotRunning
from lab.pki import HOST_FROM_GUEST, KUBELET_CLIENT_USER, Pki
from lab.waiting import wait_for

# where a lab forwards its guests' kubelets to: every guest has the same address in a network of its own
DEFAULT_NODES: Mapping[str, str] = {"node1": "127.0.0.11", "node2": "127.0.0.12"}
# below the range from which the kernel takes ports for outgoing connections
PORT_RANGE = range(20000, 30000)
# ten seconds where nothing else runs; a machine with several labs took two minutes
READY_SECONDS = 300.0
LOG_TAIL_LINES = 15
# in the order of their start
_PROGRAMS = (components.ETCD, components.API_SERVER, components.CONTROLLER_MANAGER, components.SCHEDULER)


class ControlPlaneError(Exception):
    """The control plane can't do what was asked; the message has the end of the log that tells why."""


@dataclass(frozen=True)
class _Settings:
    """What must be remembered to open a control plane again."""

    port: int
    controllers: bool
    nodes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> _Settings:
        return cls(**json.loads(path.read_text()))

    def save(self, path: Path) -> None:
        # renamed into place: another process may be reading
        path.with_suffix(".new").write_text(json.dumps(asdict(self)))
        path.with_suffix(".new").rename(path)


class ControlPlane:
    """One control plane: its processes belong to `keeper`, its files are in `folder`."""

    def __init__(self, keeper: Keeper, folder: Path, settings: _Settings) -> None:
        self.keeper = keeper
        self.folder = folder
        self._settings = settings
        self._pki = Pki(folder / "pki")
        self._client: ApiClient | None = None

    @classmethod
    def start(
        cls,
        keeper: Keeper,
        folder: Path,
        *,
        controllers: bool,
        nodes: Mapping[str, str] = DEFAULT_NODES,
        port: int | None = None,
    ) -> ControlPlane:
        """Start a control plane in `folder` and return when it is ready.

        A folder that held one before is started again with its port, its certificates and its data. `nodes`
        maps node names, which get credentials, to the addresses at which the API server finds their kubelets.
        """
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = folder / "state.json"
        if port is None:
            port = _Settings.load(state).port if state.exists() else free_port()
        settings = _Settings(port, controllers, dict(nodes))
        plane = cls(keeper, folder, settings)
        plane._prepare()
        settings.save(state)
        try:
            plane._start_all()
        except BaseException:
            with contextlib.suppress(KeeperError):
                plane.stop()
            raise
        return plane

    @classmethod
    def open(cls, keeper: Keeper, folder: Path) -> ControlPlane:
        """The control plane that was started in `folder`, by whichever process."""
        state = folder.absolute() / "state.json"
        if not state.exists():
            raise ControlPlaneError(f"no control plane was started in {folder}")
        return cls(keeper, folder.absolute(), _Settings.load(state))

    @property
    def port(self) -> int:
        """The API server's port, the same for the life of the folder."""
        return self._settings.port

    @property
    def url(self) -> str:
        """The API server as this machine reaches it."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def guest_url(self) -> str:
        """The API server as the guests reach it, through QEMU's user network."""
        return f"https://{HOST_FROM_GUEST}:{self.port}"

    @property
    def admin_kubeconfig(self) -> Path:
        """The kubeconfig that may do everything, for this machine."""
        return self._pki.folder / "admin.kubeconfig"

    @property
    def audit(self) -> AuditLog:
        """What was written to this API server, and by whom."""
        return AuditLog(self.folder / components.AUDIT_LOG)

    @property
    def pki(self) -> Pki:
        """The certificates, for what else needs some: `NODE-serving` for a kubelet, `ca` for all."""
        return self._pki

    def client(self) -> ApiClient:
        """A small API client with the administrator's rights: one, and its connections, for all who ask."""
        if self._client is None:
            self._client = ApiClient(self.admin_kubeconfig)
        return self._client

    def log(self, program: str) -> Path:
        """The log of one of the programs, such as `kube-apiserver`."""
        return self.folder / f"{program}.log"

    def kubeconfig_for_node(self, name: str) -> Path:
        """The kubelet's kubeconfig for the node `name`, as used inside its guest."""
        if name not in self._settings.nodes:
            raise ControlPlaneError(f"{name} is not a node here: {', '.join(self._settings.nodes) or 'none is'}")
        return self._pki.folder / f"{name}.kubeconfig"

    def service_account_kubeconfig(
        self,
        namespace: str,
        name: str,
        path: Path,
        *,
        node: str | None = None,
        server: str | None = None,
        seconds: int = 86400,
    ) -> Path:
        """Write a kubeconfig with a fresh token of an existing service account to `path`, and return it.

        With `node` the token is bound to that Node object and carries its name, like that of a pod on it.
        `server` is this machine's view of the API server unless given (`guest_url`).
        """
        spec: dict[str, object] = {"expirationSeconds": seconds}
        if node is not None:
            uid = self.client().get(f"/api/v1/nodes/{node}")["metadata"]["uid"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.client().post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
        user = {"token": answer["status"]["token"]}
        self._pki.write_kubeconfig(path, name, server or self.url, user, namespace)
        return path

    def stop_apiserver(self) -> float:
        """Kill the API server, as a crash would, and return when that happened. etcd keeps what it has."""
        return self.keeper.kill(self._process(components.API_SERVER))

    def start_apiserver(self) -> None:
        """Start the API server again, at the same port, and return when it is ready."""
        self._spawn(components.API_SERVER)
        self._wait_ready()

    def expect_nodes_within(self, seconds: int) -> None:
        """Restart the controllers: a kubelet that is silent for so long counts as lost. A restore undoes it."""
        self.keeper.kill(self._process(components.CONTROLLER_MANAGER))
        self._spawn(components.CONTROLLER_MANAGER, node_grace=f"{seconds}s")

    def save(self, tag: str) -> None:
        """Keep the present state as `tag`, replacing an older one. Nothing is restarted: nobody notices.

        etcd is frozen while its folder is copied, so the copy is what a crash at that moment would leave.
        """
        copy = self._saved(tag)
        unfinished = copy.with_name(f".{tag}.tmp")
        for each in (unfinished, copy):
            shutil.rmtree(each, ignore_errors=True)
        unfinished.parent.mkdir(exist_ok=True)
        etcd = self._process(components.ETCD)
        pid = self.keeper.running()[etcd]
        self.keeper.signal(etcd, signal.SIGSTOP)
        try:
            wait_for(lambda: _frozen(pid), "etcd to freeze", 10, interval=0.002)
            _copy(self.folder / components.ETCD_FOLDER, unfinished)
        finally:
            self.keeper.signal(etcd, signal.SIGCONT)
        unfinished.rename(copy)

    def restore(self, tag: str) -> None:
        """Go back to the state `tag`: all programs are restarted on a copy of it; returns when ready.

        Every client must relist, best by a restart: resource versions that it has seen will be used again.
        """
        saved = self._saved(tag)
        if not saved.is_dir():
            raise ControlPlaneError(f"nothing was saved as {tag!r} in {self.folder}")
        self.stop()
        shutil.rmtree(self.folder / components.ETCD_FOLDER)
        _copy(saved, self.folder / components.ETCD_FOLDER)
        self._start_all()

    def stop(self) -> None:
        """End all programs. The folder stays, and can be started again."""
        for program in reversed(_PROGRAMS):
            with contextlib.suppress(NotRunning):
                self.keeper.kill(self._process(program))

    def _prepare(self) -> None:
        Pki.ensure(self._pki.folder, list(self._settings.nodes))
        for name in ("admin", components.CONTROLLER_MANAGER, components.SCHEDULER):
            self._pki.kubeconfig(name, self.url)
        for name in self._settings.nodes:
            self._pki.kubeconfig(name, self.guest_url)
        (self.folder / "audit-policy.yaml").write_text(components.AUDIT_POLICY)
        (self.folder / "hosts").write_text(components.hosts_file(self._settings.nodes))

    def _start_all(self) -> None:
        self._spawn(components.ETCD)
        # it waits for etcd by itself
        self._spawn(components.API_SERVER)
        self._wait_ready()
        self._allow_kubelet_access()
        if self._settings.controllers:
            self._spawn(components.CONTROLLER_MANAGER)
            self._spawn(components.SCHEDULER)
            what = "the controllers to make the default service account"
            self._wait(self._controllers_work, what, *_PROGRAMS)

    def _spawn(self, program: str, *, node_grace: str = components.NODE_GRACE) -> None:
        path, kubeconfig = binary(program), self._pki.folder / f"{program}.kubeconfig"
        if program == components.ETCD:
            argv = components.etcd(path)
        elif program == components.API_SERVER:
            policy, log = self.folder / "audit-policy.yaml", self.folder / components.AUDIT_LOG
            argv = components.api_server(path, self._pki, self.port, policy, log)
            # an unprivileged user can have no mount namespace; only logs and exec of real nodes need it
            if os.geteuid() == 0:
                argv = components.with_own_hosts(argv, self.folder / "hosts")
        elif program == components.CONTROLLER_MANAGER:
            argv = components.controller_manager(path, self._pki, kubeconfig, node_grace)
        else:
            argv = components.scheduler(path, kubeconfig)
        log = self.log(program)
        self.keeper.spawn(self._process(program), argv, log=log, cwd=self.folder, env=components.ENVIRONMENT)

    def _process(self, program: str) -> str:
        # the whole path: one keeper may have several control planes
        return f"{self.folder}/{program}"

    def _saved(self, tag: str) -> Path:
        return self.folder / "saved" / tag

    def _wait_ready(self) -> None:
        client = self.client()

        def ready() -> bool:
            with contextlib.suppress(ApiError, ApiUnreachable):
                return bool(client.request("GET", "/readyz", timeout=5) == "ok")
            return False

        self._wait(ready, "the API server to be ready", components.ETCD, components.API_SERVER)

    def _controllers_work(self) -> bool:
        with contextlib.suppress(ApiError, ApiUnreachable):
            self.client().get("/api/v1/namespaces/default/serviceaccounts/default")
            return True
        return False

    def _wait(self, condition: Callable[[], bool], what: str, *programs: str) -> None:
        """Wait for `condition`, but not longer than these programs live."""
        deadline = time.monotonic() + READY_SECONDS
        while not condition():
            ended = [name for name in programs if self.keeper.exit_status(self._process(name)) is not None]
            if ended or time.monotonic() > deadline:
                reason = f"{ended[0]} ended" if ended else f"not within {READY_SECONDS:g} s"
                tail = _tail(self.log(ended[0] if ended else programs[-1]))
                raise ControlPlaneError(f"waited for {what}: {reason}\n{tail}")
            time.sleep(0.05)

    def _allow_kubelet_access(self) -> None:
        """Logs and exec: the API server's own certificate is an ordinary user to a kubelet."""
        name = "storagepair-lab:kubelet-api"
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:kubelet-api-admin",
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": KUBELET_CLIENT_USER}],
        }
        try:
            self.client().post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        except ApiError as error:
            if error.status != http.HTTPStatus.CONFLICT:
                raise


def free_port() -> int:
    """A port that nobody listens on, chosen at random so that two starts at once don't choose the same."""
    for port in random.sample(PORT_RANGE, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            # what the API server sets too: without it a port counts as taken for a minute after its last use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise ControlPlaneError(f"no free port found between {PORT_RANGE.start} and {PORT_RANGE.stop}")


def _copy(source: Path, target: Path) -> None:
    # etcd allocates its log files in advance: 120 MB, nearly all of it zeros
    argv = ["cp", "--archive", "--sparse=always", "--", str(source), str(target)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ControlPlaneError(f"cannot copy {source}: {done.stderr.strip()}")


def _frozen(pid: int) -> bool:
    """Have all threads of the process stopped? A signal to stop takes a moment to reach each of them."""
    states = [task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    return bool(states) and all(state == "T" for state in states)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"the end of {log}:", *(f"  {line}" for line in lines[-LOG_TAIL_LINES:])])
