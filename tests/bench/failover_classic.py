"""The classic stack as people build it by hand: Heartbeat with stock haresources, and a boot script for tgt."""

from __future__ import annotations

from typing import ClassVar

from lab.lab import LabGuest

from bench import failover_hosts as hosts
from bench.failover_contender import Peer, Roles
from bench.failover_model import DEADTIME_SECONDS, DETECTED, STOP, TAKEOVER


class Classic(Peer):
    """haresources: drbddisk, Filesystem, IPaddr, tgtboot."""

    name = "classic"
    patterns: ClassVar = {
        STOP: r"give up all HA resources",
        DETECTED: r"node \S+: is dead",
        TAKEOVER: r"acquire all HA resources|Taking over resource group",
    }

    def build(self) -> None:
        hosts.together(self._configure, self.lab.nodes)
        hosts.together(lambda node: node.ssh(["systemctl", "start", "heartbeat"]), self.lab.nodes)

    def idle(self) -> bool:
        # while it moves something a node says "transition"
        return all(self._held(node) in ("all", "local", "foreign", "none") for node in self.lab.nodes)

    def switch_over(self, roles: Roles) -> None:
        roles.active.ssh(["/usr/share/heartbeat/hb_standby", "all"])

    def _held(self, node: LabGuest) -> str:
        return node.ssh(["cl_status", "rscstatus"], check=False).stdout.strip()

    def _configure(self, node: LabGuest) -> None:
        timing = {"deadtime": DEADTIME_SECONDS, "initdead": 2 * DEADTIME_SECONDS}
        node.write("/etc/ha.d/ha.cf", hosts.recipe("classic/ha.cf", **timing))
        node.write("/etc/ha.d/haresources", hosts.recipe("classic/haresources"))
        node.write("/etc/ha.d/authkeys", "auth 1\n1 sha1 of-this-bench-only\n", mode=0o600)
        node.write("/etc/ha.d/resource.d/tgtboot", hosts.recipe("classic/tgtboot"), mode=0o755)
        node.write("/etc/tgt/ha-targets", hosts.recipe("classic/ha-targets"))
