"""The whole as users run it: the lab's machines as Kubernetes nodes, a control plane, the operator, the agents' pods.

    stack = Stack.up("demo")
    stack.kubectl("get", "nodes")
    stack.lab.node1.power_cut()
    stack.snapshot("tag"), stack.restore("tag")
    stack.down()

The agents run as the DaemonSet's pods. The operator runs beside the lab, with its own service account's rights, which
is quick to restart and to restore; `move_operator_into_cluster` makes it the Deployment's pod, as users run it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from lab import cache, image, kubenode, lastwords, registry
from lab.apiclient import ApiError, ApiUnreachable
from lab.binaries import binaries, binary
from lab.controlplane import ControlPlane, free_port
from lab.images import AGENT, OPERATOR, SOURCES, TAG, Source, built
from lab.keeper import NotRunning
from lab.kubectl import kubectl
from lab.kubelayer import KubeLayer, kube_layer
from lab.lab import Lab, LabGuest
from lab.ssh import SshError
from lab.together import together

NAMESPACE = "storagepair-system"
STORAGE_LABEL = "storagepair.dev/storage-node=true"

_REPOSITORY = Path(__file__).resolve().parents[2]
_MANIFESTS = Path(__file__).resolve().parent / "manifests"
_SOURCES = ("crds", "operator")
_CONTROL_PLANE = "control-plane"
_SETTINGS = "stack.json"
# tests that watch for writes that should not come stay for more than one audit
AUDIT_SECONDS = 10
# a new agent's pod needs half a minute on an emulated machine, and more than the operator's own 90 s on a slow host
AGENT_SILENT_SECONDS = 300
_OPERATOR = "operator"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io%2Fname%3Dstoragepair-"
_DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/storagepair-operator"
_LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/storagepair-operator"
_POLL_SECONDS = 0.5
# an emulated machine beside others starts a kubelet in half a minute, and a pod in as much
_NODE_SECONDS = 300.0
_AGENT_SECONDS = 300.0
_OPERATOR_SECONDS = 60.0
# on a busy machine its first probe was answered after three minutes
_OPERATOR_POD_SECONDS = 600.0


class StackError(Exception):
    """The stack did not get where it should; the message has what the API server knows about it."""


class Stack:
    """A running stack. Any process can open it by its name."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.plane = ControlPlane.open(lab.keeper, lab.run_dir / _CONTROL_PLANE)
        lab.participants.append(self.plane)

    # --- life ---------------------------------------------------------------------------------------------------

    @classmethod
    def up(
        cls,
        name: str,
        *,
        suite: str = image.DEFAULT_SUITE,
        owner_pid: int | None = None,
        data_mib: int = 192,
        volatile_disks: bool = False,
    ) -> Stack:
        """Bring everything up and return when both agents follow the API server. What is missing is built first.

        With `owner_pid` every process of it ends when that one does, however it ends. `volatile_disks`: see `Lab.up`.
        """
        layer = prepare(suite)
        lab = Lab.up(
            name, suite=suite, kube=layer, owner_pid=owner_pid, data_mib=data_mib, volatile_disks=volatile_disks
        )
        try:
            with cache.step("starting the Kubernetes control plane"):
                nodes = {guest.name: guest.loopback for guest in lab.nodes}
                ControlPlane.start(lab.keeper, lab.run_dir / _CONTROL_PLANE, controllers=True, nodes=nodes)
            stack = cls(lab)
            (lab.run_dir / _SETTINGS).write_text(json.dumps({"operatorPort": free_port()}))
            with cache.step("making Kubernetes nodes of the storage nodes"):
                stack._join_nodes()
            with cache.step("starting the operator and the node agents"):
                stack._install()
        except BaseException:
            lab.down(keep_logs=True)
            raise
        return stack

    @classmethod
    def open(cls, name: str) -> Stack:
        """The running stack `name`."""
        return cls(Lab.open(name))

    @staticmethod
    def remove(name: str) -> None:
        """End the stack `name`, if it runs, and remove all that it left."""
        registry.remove(name)

    def down(self, *, keep_logs: bool = False) -> None:
        """End every process and remove all files (the logs stay where asked for)."""
        self.lab.down(keep_logs=keep_logs)

    # --- looking ------------------------------------------------------------------------------------------------

    @property
    def kubectl_path(self) -> Path:
        """The kubectl that belongs to the control plane."""
        return binary("kubectl")

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl as administrator and return what it prints; raises `KubectlError`."""
        return kubectl(self.plane.admin_kubeconfig, *arguments, stdin=stdin, timeout=timeout)

    def agent_pod(self, node: str) -> dict[str, Any] | None:
        """The node agent's pod on `node`: the one that is not being deleted. None when there is none."""
        pods = [each for each in self._list(f"{_PODS}node-agent") if each["spec"].get("nodeName") == node]
        return next((each for each in pods if "deletionTimestamp" not in each["metadata"]), None)

    def agent_log(self, node: str) -> str:
        """What the node agent on `node` has logged."""
        pod = self.agent_pod(node)
        if pod is None:
            raise StackError(f"there is no agent's pod on {node}")
        return self.kubectl("logs", "--namespace", NAMESPACE, pod["metadata"]["name"])

    @property
    def operator_log(self) -> Path:
        """The operator's log, over all its starts."""
        return self.lab.run_dir / "operator.log"

    # --- the operator -------------------------------------------------------------------------------------------

    def start_operator(self, tree: Path = _REPOSITORY) -> None:
        """Start the operator of a source tree and return when its view of the API server is whole."""
        kubeconfig = self.lab.run_dir / "operator.kubeconfig"
        # a fresh token: an earlier one may be older than a restored API server's memory of it
        self.plane.service_account_kubeconfig(NAMESPACE, "storagepair-operator", kubeconfig)
        argv = [sys.executable, "-m", "storagepair_operator.main", "run", f"--kubeconfig={kubeconfig}"]
        argv += [f"--health-port={self._operator_port}", f"--audit-seconds={AUDIT_SECONDS}"]
        if tree == _REPOSITORY:  # an earlier one may not know it
            argv += [f"--agent-silent-seconds={AGENT_SILENT_SECONDS}"]
        # as it is in this checkout, whichever environment runs this
        environment = {"PYTHONPATH": ":".join(str(tree / folder) for folder in _SOURCES)}
        self.lab.keeper.spawn(_OPERATOR, argv, log=self.operator_log, env=environment)
        self._wait(self._operator_ready, "the operator to be ready", _OPERATOR_SECONDS)

    def stop_operator(self, sig: int = signal.SIGTERM) -> None:
        """End the operator; no-op when it isn't running."""
        with contextlib.suppress(NotRunning):
            self.lab.keeper.kill(_OPERATOR, sig, timeout=30)

    def restart_operator(self) -> None:
        """End the operator in an orderly way and start it again."""
        self.stop_operator()
        self.start_operator()

    def judgement(self, pair: str) -> str:
        """What the operator said last of a pair (namespace/name) since it leads; "" before it has looked at it."""
        said = self.operator_log.read_text(errors="replace").rpartition(" leads\n")[2]
        return said.rpartition(f" {pair}: ")[2].partition("\n")[0]

    def operator_metrics(self) -> str:
        """The operator's own metrics, its write counters among them."""
        return self._ask_operator("/metrics")[1]

    def move_operator_into_cluster(self) -> None:
        """From now on, and in snapshots of it, the operator is the Deployment's pod; returns when that one leads."""
        self.load_image(OPERATOR)
        self.stop_operator()
        self.apply_manifests("cluster")
        self.wait_operator_pod()

    def operator_pod(self) -> dict[str, Any] | None:
        """The operator's pod: the one that is not being deleted. None when there is none."""
        pods = (each for each in self._list(f"{_PODS}operator") if "deletionTimestamp" not in each["metadata"])
        return next(pods, None)

    def wait_operator_pod(self) -> None:
        """Wait until the operator's pod is ready and has renewed its Lease: it acts."""
        before = self._lease()
        self._wait(partial(self._operator_pod_leads, before), "the operator's pod to lead", _OPERATOR_POD_SECONDS)

    def apply_manifests(self, overlay: str, tree: Path = _REPOSITORY) -> None:
        """The manifests of a source tree, as the lab changes them: `cluster` or `beside` (lab/manifests)."""
        folder = tree / _MANIFESTS.relative_to(_REPOSITORY) / overlay
        self.kubectl("apply", "--server-side", "--kustomize", str(folder))

    # --- the agents ---------------------------------------------------------------------------------------------

    def restart_agent(self, node: str) -> None:
        """Delete the agent's pod on `node` and wait until the new one follows the API server."""
        old = self.agent_pod(node)
        if old is not None:
            self.kubectl("delete", "pod", "--namespace", NAMESPACE, old["metadata"]["name"])
        self.wait_agents(self.lab.machines[node])

    def restart_agents(self) -> None:
        """Delete both agents' pods at once and wait until the new ones follow the API server."""
        together(lambda guest: self.restart_agent(guest.name), self.lab.nodes)

    def update_agents(self) -> None:
        """Give both nodes the agent's image as the code is now, and replace the pods."""
        self.load_image(AGENT)
        self.restart_agents()

    def join_again(self, guest: LabGuest) -> None:
        """Make a Kubernetes node of a new machine that has the place, and the Node object, of an earlier one."""
        kubenode.join(guest, self.plane)
        kubenode.load_image(guest, built(AGENT).update())
        self.wait_agents(guest)

    def load_image(self, source: Source, tag: str = TAG) -> None:
        """Give both nodes an image as the code is now."""
        self.load_archive(built(source).update(tag))

    def load_archive(self, archive: bytes) -> None:
        """Give both nodes an image of which they have the lower layers."""
        together(lambda guest: kubenode.load_image(guest, archive), self.lab.nodes)

    def wait_agents(self, *guests: LabGuest) -> None:
        """Wait until the agents on these nodes (both, if none is named) run and follow the API server."""
        for guest in guests or self.lab.nodes:
            self._wait(partial(self._agent_works, guest), f"the agent on {guest.name}", _AGENT_SECONDS)

    def freeze_kubelets(self) -> None:
        """Stop kubelets and containerd where they are, so that nothing competes with a failover that is timed."""
        together(kubenode.freeze, self._powered_nodes())

    def thaw_kubelets(self) -> None:
        """Let them go on."""
        together(kubenode.thaw, self._powered_nodes())

    # --- snapshots ----------------------------------------------------------------------------------------------

    def snapshot(self, tag: str) -> None:
        """Save everything as `tag`: machines, disks, wiring, and the cluster's data."""
        self.lab.snapshot(tag)

    def restore(self, tag: str) -> None:
        """Bring everything back to `tag`; returns when operator and agents follow the API server again."""
        # it must not act on what it saw in a future that never was
        self.stop_operator(signal.SIGKILL)
        self.lab.restore(tag)
        nodes = self._powered_nodes()
        with ThreadPoolExecutor(max_workers=1) as pool:
            dropped = pool.submit(together, kubenode.drop_connections, nodes)
            self._operator_acts_again()
            dropped.result()
        if not self.lab.settings.api_cut:
            self.wait_agents(*nodes)

    # --- within -------------------------------------------------------------------------------------------------

    def _operator_acts_again(self) -> None:
        """After a restore: the process beside the lab is started anew, the Deployment's pod is waited for."""
        if self.plane.client().get(_DEPLOYMENT)["spec"]["replicas"] == 0:
            # the one that held it was killed above: its successor need not wait until that is sure
            if self._lease():
                self.plane.client().delete(_LEASE)
            self.start_operator()
        elif not self.lab.settings.api_cut:
            self.wait_operator_pod()

    def _join_nodes(self) -> None:
        """Credentials and the agent's image for both nodes; the manifests meanwhile, then the label."""
        archive = built(AGENT).update()

        def join(guest: LabGuest) -> None:
            kubenode.join(guest, self.plane)
            kubenode.load_image(guest, archive)

        with ThreadPoolExecutor(max_workers=1) as pool:
            applying = pool.submit(self.apply_manifests, "beside")
            together(join, self.lab.nodes)
            applying.result()
        names = [guest.name for guest in self.lab.nodes]
        self._wait(lambda: self._registered() >= set(names), "the nodes to register", _NODE_SECONDS)
        self.kubectl("label", "nodes", *names, STORAGE_LABEL)
        self._wait(lambda: self._registered(ready=True) >= set(names), "the nodes to be Ready", _NODE_SECONDS)

    def _install(self) -> None:
        self.start_operator()
        self.wait_agents()

    def _registered(self, *, ready: bool = False) -> set[str]:
        return {
            each["metadata"]["name"]
            for each in self._list("/api/v1/nodes")
            if not ready or _conditions(each).get("Ready") == "True"
        }

    def _agent_works(self, guest: LabGuest) -> bool:
        pod = self.agent_pod(guest.name)
        if pod is None or _conditions(pod).get("Ready") != "True":
            return False
        # after a power cut the API server still tells of the pod that was: only the machine itself knows
        with contextlib.suppress(SshError):
            return kubenode.agent_connected(guest)
        return False

    def _operator_pod_leads(self, before: dict[str, Any]) -> bool:
        pod, now = self.operator_pod(), self._lease()
        if pod is None or _conditions(pod).get("Ready") != "True":
            return False
        mine = str(now.get("holderIdentity", "")).startswith(f"{pod['metadata']['name']}_")
        return mine and now.get("renewTime") != before.get("renewTime")

    def _lease(self) -> dict[str, Any]:
        """The spec of the Lease that elects the operator; {} when there never was one."""
        try:
            spec: dict[str, Any] = self.plane.client().get(_LEASE)["spec"]
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise
            return {}
        return spec

    def _operator_ready(self) -> bool:
        status = self.lab.keeper.exit_status(_OPERATOR)
        if status is not None:
            tail = "\n".join(self.operator_log.read_text(errors="replace").splitlines()[-15:])
            raise StackError(f"the operator ended with {status}:\n{tail}")
        try:
            return self._ask_operator("/readyz")[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def _ask_operator(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._operator_port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")

    @property
    def _operator_port(self) -> int:
        return int(json.loads((self.lab.run_dir / _SETTINGS).read_text())["operatorPort"])

    def _list(self, path: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.plane.client().get(path)["items"]
        return items

    def _powered_nodes(self) -> list[LabGuest]:
        return [guest for guest in self.lab.nodes if guest.is_on()]

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for `condition`; an API server that does not answer for a moment is no reason to give up."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
                trouble = ""
            except (ApiError, ApiUnreachable) as error:
                trouble = f": {error}"
            if time.monotonic() > deadline:
                raise StackError(f"waited {seconds:g} s for {what}{trouble}\n{lastwords.told(self.kubectl, NAMESPACE)}")
            time.sleep(_POLL_SECONDS)


def prepare(suite: str) -> KubeLayer:
    """Build whatever is missing in the cache, the two long lines of it at the same time."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        # Go has every processor busy, Debian's packages mostly wait for the network
        programs = pool.submit(binaries)
        machines = pool.submit(image.guest_image, suite)
        images = pool.submit(lambda: [built(each) for each in SOURCES])
        for future in (programs, machines, images):
            future.result()
    return kube_layer()


def _conditions(document: dict[str, Any]) -> dict[str, str]:
    return {each["type"]: each["status"] for each in document.get("status", {}).get("conditions", [])}
