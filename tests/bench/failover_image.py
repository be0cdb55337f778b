"""The machines of the two stacks that ours is compared with: the lab's image with their packages.

An image of its own, which only the bench builds: what the lab's image has decides how long a first run takes.
"""

from __future__ import annotations

from lab.image import MorePackages

PEERS = MorePackages(
    name="peers",
    packages=(
        "corosync",
        "crmsh",
        "net-tools",  # IPaddr has ifconfig make the address
        "pacemaker",
        "pacemaker-cli-utils",
        "psmisc",  # Filesystem's fuser
        "resource-agents",
    ),
    # one stack serves at a time; each is started by its recipe
    idle_units=("corosync.service", "pacemaker.service", "heartbeat.service", "logd.service", "tgt.service"),
)
