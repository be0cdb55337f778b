"""What can be set from outside, and the few figures that are fixed, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's settings: the first block is on the command line, the rest is fixed."""

    kubeconfig: str | None = None
    """A kubeconfig file. Without it: the pod's service account, else KUBECONFIG, else ~/.kube/config."""

    secrets_namespace: str = "storagepair-system"
    """Where the Heartbeat keys of all pairs are made, and where the nodes' own accounts and Secrets are."""

    audit_seconds: float = 60
    """How often the view is compared with the API server, besides at the start and after every relist."""

    agent_silent_seconds: float = 90
    """After how long without a renewal of its Lease an agent is called silent. Agents renew every 20 s."""

    log_level: str = "info"
    """debug, info, warning or error."""

    health_port: int = 8080
    """Where /healthz, /readyz and /metrics answer; 0 for nowhere."""

    health_host: str = "0.0.0.0"  # noqa: S104 - the kubelet probes the pod's address
    """At which address they answer."""

    request_timeout_seconds: float = 30
    """After how long an unanswered request is given up. Watches have their own, longer limit."""

    watch_seconds: int = 600
    """How long the API server keeps one watch open before it asks for the next one."""

    debounce_seconds: float = 0.05
    """How long a pair's key waits for company, so that a burst of events is one reconcile."""

    workers: int = 4
    """How many pairs are reconciled at the same time; a single pair never twice."""

    backoff_seconds: float = 0.5
    """The wait after a first failed reconcile; it doubles with each further one..."""

    backoff_limit_seconds: float = 60
    """...up to this. A pair is never given up: what fails for an hour may work in the next minute."""

    catch_up_seconds: float = 20
    """How long the watch may lag behind an audit's lists before the lists are read again."""

    stall_seconds: float = 300
    """After how long of an answering API server and a view that won't become whole the process is not alive."""

    lease_seconds: int = 15
    """After how long without a renewal another operator may take the lease."""

    lease_renew_limit_seconds: float = 10
    """After how long without a renewal this operator writes nothing more; well before another one may lead."""

    lease_retry_seconds: float = 5
    """How often the lease is renewed, or asked for."""
