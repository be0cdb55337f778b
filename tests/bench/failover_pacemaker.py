"""Pacemaker on Corosync with the ClusterLabs agents and DRBD's own, as the vendor's iSCSI guide builds it."""

from __future__ import annotations

from typing import ClassVar

from lab.lab import LabGuest
from lab.waiting import wait_for

from bench import failover_hosts as hosts
from bench.failover_contender import Peer, Roles
from bench.failover_model import DEADTIME_SECONDS, DETECTED, STOP, TAKEOVER

# Corosync declares a node dead after token + consensus: together the deadtime of the others. Its default consensus
# (1.2 x token) would make it 2.2 x token; for two nodes less than the token is safe (corosync.conf(5)).
CONSENSUS_MILLISECONDS = 1000
TOKEN_MILLISECONDS = DEADTIME_SECONDS * 1000 - CONSENSUS_MILLISECONDS
GROUP = "g_iscsi"
_START_SECONDS = 400.0


class Pacemaker(Peer):
    """A promotable DRBD; a group of Filesystem, iSCSITarget, iSCSILogicalUnit, IPaddr2 where it is promoted."""

    name = "pacemaker"
    patterns: ClassVar = {
        STOP: r"Requesting local execution of stop operation for p_vip ",
        DETECTED: r"forming new configuration|state is now lost",
        TAKEOVER: r"Requesting local execution of promote operation for p_drbd",
    }

    def build(self) -> None:
        hosts.together(self._start, self.lab.nodes)
        first = self.lab.node1
        wait_for(self._both_online, "Pacemaker's nodes to be online", _START_SECONDS, interval=1)
        first.write("/root/cluster.crm", hosts.recipe("pacemaker/cluster.crm"))
        first.ssh(["crm", "-F", "configure", "load", "update", "/root/cluster.crm"], timeout=300)

    def idle(self) -> bool:
        status = self.lab.node1.ssh(["crmadmin", "--quiet", "--status", self._coordinator()], check=False)
        return "S_IDLE" in status.stdout + status.stderr

    def switch_over(self, roles: Roles) -> None:
        roles.active.ssh(["crm_resource", "--move", f"--resource={GROUP}", f"--node={roles.taker.name}"])

    def _coordinator(self) -> str:
        shown = self.lab.node1.ssh(["crmadmin", "--quiet", "--dc_lookup"], check=False)
        return (shown.stdout + shown.stderr).split()[-1] if (shown.stdout + shown.stderr).split() else ""

    def _both_online(self) -> bool:
        shown = self.lab.node1.ssh(["crm_node", "--partition"], check=False).stdout.split()
        return set(shown) == {node.name for node in self.lab.nodes} and self.idle()

    def _start(self, node: LabGuest) -> None:
        timing = {"token": TOKEN_MILLISECONDS, "consensus": CONSENSUS_MILLISECONDS}
        node.write("/etc/corosync/corosync.conf", hosts.recipe("pacemaker/corosync.conf", **timing))
        # tgt runs on both nodes, as it does once the package is installed: only targets move
        node.ssh(["systemctl", "start", "tgt", "corosync"])
        node.ssh(["systemctl", "start", "pacemaker"])
