"""The reasons in the conditions that the agent writes: one closed vocabulary, with meanings and remedies.

A new reason is added to its Literal, which mypy holds every Verdict to, and to its meanings, which the reference
documentation is made from (`make reference`); a test compares the two. The host's scripts speak the words of
MoveReason; one that is not of them is not passed on.
"""

from __future__ import annotations

from typing import Literal, get_args

from storagepair_crds.words import NOTHING, Word

MoveReason = Literal[
    "AlreadyCarriedOut",
    "Failed",
    "HeartbeatBusy",
    "MoveUnderWay",
    "Moved",
    "NotActive",
    "NotConnected",
    "NotInstalled",
    "NotPeer",
    "NotReleased",
    "NotTakenOver",
    "NotUpToDate",
    "PeerNotSeen",
    "Refused",
    "Running",
    "Succeeded",
    "TooLate",
]
"""What came of a planned move, in the first word of the host's script `move` or of the agent."""

MOVE_REASONS: frozenset[str] = frozenset(get_args(MoveReason))

Reason = Literal[
    "ActionFailed",
    "AsDesired",
    "AuthkeyDiffers",
    "CannotExport",
    "ClockOff",
    "Configured",
    "Configuring",
    "Defect",
    "DiskFailed",
    "DiskUnknown",
    "DiskUnobserved",
    "Done",
    "Ended",
    "Exporting",
    "ForeignData",
    "ForeignHeartbeat",
    "Formatted",
    "HeldBack",
    "Installing",
    "InvalidDocument",
    "IpfailMissing",
    "LeftoverTargets",
    "LinkDown",
    "Masked",
    "MinorTaken",
    "MissingDisk",
    "MissingInterface",
    "MissingMember",
    "MissingModule",
    "MissingProgram",
    "MissingProtocols",
    "Mounted",
    "MountedElsewhere",
    "Moving",
    "NetworkUnobserved",
    "NodeNameDiffers",
    "NotActive",
    "NotAsked",
    "NotComplete",
    "NotRecorded",
    "NotRunning",
    "NotStarted",
    "NotUpToDate",
    "OtherDisk",
    "OtherPair",
    "Passed",
    "PeerIsPrimary",
    "PeerNotConnected",
    "PeerRuns",
    "PortUnguarded",
    "Preparing",
    "Refused",
    "Removed",
    "Removing",
    "Replicated",
    "RestartPending",
    "Resyncing",
    "Running",
    "Serving",
    "StandAlone",
    "Standby",
    "Starting",
    "StillHeld",
    "Stopped",
    "Stopping",
    "Suspended",
    "TableDamaged",
    "TargetInTgtConfiguration",
    "TgtdNotRunning",
    "Transition",
    "Unobserved",
    "UpToDate",
    "WaitingForAuthkey",
    "WaitingForNetwork",
    "WaitingForPreferred",
    "WaitingForPreparation",
    "WaitingForReplication",
    "WaitingForSeed",
    "WaitingForService",
    "WrongDrbd",
    "WrongNode",
]
"""What a condition of a StorageNode may say."""

_LOG = "Read the agent's log: `kubectl -n storagepair-system logs POD`."

WORDS: dict[Reason, Word] = {
    # of every part
    "ActionFailed": Word(
        "A change of the host failed; it is tried again with growing pauses.",
        "The message has the command and what it said: remove the cause.",
    ),
    "AsDesired": Word("The host is as its document wants it.", NOTHING),
    "Configuring": Word("A part of the host is being set up.", NOTHING),
    "Defect": Word("The agent itself is broken in this part; the others go on.", f"{_LOG} Report it."),
    "HeldBack": Word("Something is to be done, but waits until what is wrong on the host is put right.", NOTHING),
    "InvalidDocument": Word(
        "The StorageNode does not fit its schema, or is not for this host; nothing was changed.",
        "CRDs, operator and agent are of different versions, or somebody wrote to the StorageNode: apply one version.",
    ),
    "Unobserved": Word("A part of the host could not be examined.", _LOG),
    # Preflight
    "ClockOff": Word(
        "The host's clock differs from the API server's by more than the tolerance.",
        "Set it and keep it: `apt-get install chrony`.",
    ),
    "DiskUnobserved": Word("The disk could not be examined.", _LOG),
    "MissingDisk": Word(
        "The named disk is no whole block device on the host.", "Attach it, or name another one; see `lsblk`."
    ),
    "MissingInterface": Word("A NIC that a bond names is not there.", "Correct the name; see `ip link` on the host."),
    "MissingModule": Word(
        "The kernel has no module drbd or bonding.", "Install the full kernel package of the message and boot it."
    ),
    "MissingProgram": Word("A program of the stack is not installed.", "Install the package that the message names."),
    "MissingProtocols": Word(
        "There is no /etc/protocols, without which Heartbeat dies on ping addresses.", "`apt-get install netbase`."
    ),
    "NetworkUnobserved": Word("The host's links could not be read.", _LOG),
    "NodeNameDiffers": Word(
        "The node's name is not the host's `uname -n`, by which DRBD and Heartbeat go.",
        "Make them equal: `hostnamectl hostname NAME`, or register the node by its host name.",
    ),
    "OtherDisk": Word(
        "The host was set up with another disk than the document names; nothing is changed.",
        "Name the old disk again. Another disk can't be carried out yet.",
    ),
    "OtherPair": Word(
        "The host was set up for another pair, or a teardown names another object; nothing is changed.",
        "Only if that pair's data may go: take the host out of it by hand, as the message says.",
    ),
    "Passed": Word("The host has what the stack needs.", NOTHING),
    "WrongDrbd": Word(
        "The loaded DRBD module is not 8.4, the one inside Linux.",
        "Remove the out-of-tree module (`apt-get remove drbd-dkms`) and boot again.",
    ),
    "WrongNode": Word("The document is not for this host.", "Somebody else than the operator wrote it: find out who."),
    # Network
    "Configured": Word("Bonds and addresses are as wanted.", NOTHING),
    "LinkDown": Word(
        "A NIC has no carrier, or Heartbeat hears nothing over a link.",
        "Look at the cable, the switch port and the NIC that the message names.",
    ),
    "MissingMember": Word("A NIC of a bond is gone; the bond runs without it.", "Look at the NIC; replace it."),
    "Refused": Word(
        "A NIC or an interface is somebody else's (an address, a master, the default route); it is left alone.",
        "Free it on the host, or name another one.",
    ),
    # Replication
    "DiskFailed": Word(
        "DRBD has detached its disk after an error and works with the peer's copy.",
        "See `dmesg` on the host, and how to replace a disk.",
    ),
    "DiskUnknown": Word("What is on the disk is not known; nothing is done.", f"{_LOG} Look at the disk."),
    "ForeignData": Word(
        "The disk, or the mirrored device, has data that storagepair did not write; it is not touched.",
        "Name another disk, or wipe this one yourself if its data may go, as the message says.",
    ),
    "MinorTaken": Word(
        "/dev/drbd0 belongs to another DRBD resource of the host.", "Give that one another minor, or take another host."
    ),
    "NotUpToDate": Word(
        "The two copies are not both good.",
        "Wait for the resync if there is one, else see `drbdadm status` on both hosts.",
    ),
    "PeerNotConnected": Word(
        "DRBD does not reach the other host.", "Is it up? Are the bond and the switches of the replication network?"
    ),
    "Resyncing": Word("One copy is being brought up to date.", "Wait; leave the source running until it is done."),
    "StandAlone": Word(
        "DRBD refuses the connection to the other host: split brain, or data of another origin.",
        "See how to resolve a split brain. Nothing is discarded by itself.",
    ),
    "UpToDate": Word("Connected, and both copies are up to date.", NOTHING),
    "WaitingForNetwork": Word("The replication address is not on the host yet.", NOTHING),
    "WaitingForSeed": Word("Connected; the first sync starts from the first node of the pair.", NOTHING),
    # Filesystem
    "Formatted": Word("The file system is made; the preparation is being cleared away.", NOTHING),
    "Mounted": Word("The file system is mounted where the document says.", NOTHING),
    "MountedElsewhere": Word(
        "The device is mounted at another place than the document says.", "Unmount it there, on the host."
    ),
    "NotRecorded": Word(
        "The host has no record of having made the file system although the pair is past its preparation.",
        "Is this the host that the pair was set up on? Nothing is made now.",
    ),
    "PeerIsPrimary": Word(
        "The other host is Primary while the file system shall be made here.", "Demote it there: `drbdadm secondary`."
    ),
    "Preparing": Word("The file system is being made.", NOTHING),
    "Replicated": Word("The file system is made by the other host and comes by replication.", NOTHING),
    "WaitingForReplication": Word("The mirror, or its first copy, is not there yet.", NOTHING),
    # Heartbeat
    "AuthkeyDiffers": Word(
        "The host has another Heartbeat key than the Secret; the host's is kept.",
        "Put the host's key into the Secret, or remove the file on both hosts.",
    ),
    "ForeignHeartbeat": Word(
        "Heartbeat's files on the host were not made by storagepair; nothing is changed.",
        "Is another Heartbeat set up there? Move its files away.",
    ),
    "Installing": Word("Heartbeat and the host's scripts are being set up.", NOTHING),
    "IpfailMissing": Word(
        "Ping addresses are declared, and Heartbeat's ipfail is not installed.", "Reinstall the package heartbeat."
    ),
    "Masked": Word(
        "Heartbeat is masked on the host: a person holds the host back, and it can't take over.",
        "To end that: `systemctl unmask heartbeat` there; it is started then.",
    ),
    "NotRunning": Word("Heartbeat or the guardian does not run; it is started.", NOTHING),
    "PortUnguarded": Word("The nftables table of the iSCSI port was gone; it is put back.", NOTHING),
    "RestartPending": Word(
        "Heartbeat's configuration was changed while it runs; it takes effect at its next start.",
        "When the host is the standby: `systemctl restart heartbeat` there.",
    ),
    "Running": Word("Heartbeat runs.", NOTHING),
    "Starting": Word("Heartbeat has been started and is not up yet.", NOTHING),
    "TargetInTgtConfiguration": Word(
        "The pair's target is in tgt's own configuration, which both hosts would serve at boot.",
        "Remove it from the file that the message names.",
    ),
    "WaitingForAuthkey": Word(
        "The Secret with Heartbeat's key can't be read yet.", "If it lasts: is the Secret there?"
    ),
    "WaitingForPreferred": Word(
        "The pair's very first start: its first node serves first, and Heartbeat is started here when it does.",
        "Nothing. If it lasts: see the first node's conditions, or `systemctl start heartbeat` here.",
    ),
    "WaitingForPreparation": Word("Heartbeat is set up when both hosts hold the same data.", NOTHING),
    # Targets
    "CannotExport": Word(
        "A target, a LUN or an ACL can't be exported; the others are.", "The message names it and what is missing."
    ),
    "Exporting": Word("Exports are being changed.", NOTHING),
    "LeftoverTargets": Word(
        "tgtd has the pair's targets on a host that does not hold the storage; the port there is closed.",
        "`systemctl restart tgt` on that host.",
    ),
    "NotStarted": Word(
        "The storage is here, but Heartbeat has not brought the service up.",
        "If it lasts: see /var/log/ha-log on the host. The guardian tries again by itself.",
    ),
    "Serving": Word("All LUNs are exported by this host.", NOTHING),
    "Standby": Word("The other host serves; this one is ready to.", NOTHING),
    "Suspended": Word("DRBD holds back the I/O; nothing is changed.", "See `drbdadm status` on both hosts."),
    "TableDamaged": Word(
        "The table of exports on the storage can't be read; it is not touched, and the running service goes on.",
        "Restore it from the running targets or a backup.",
    ),
    "TgtdNotRunning": Word(
        "tgtd does not run; systemd and the guardian bring it back.", "If it lasts: see `journalctl -u tgt`."
    ),
    "Transition": Word("The service is being started or stopped on the host.", NOTHING),
    "WaitingForService": Word("The host is being prepared; nothing is exported yet.", NOTHING),
    # Switchover
    "Done": Word("The last Switchover that was asked of this host is over.", NOTHING),
    "Ended": Word("A Switchover's end was told by who serves, because the agent that began it was gone.", NOTHING),
    "Moving": Word("The service is being handed over.", NOTHING),
    "NotActive": Word(
        "The host was asked to hand the service over and does not serve.", "See who serves; ask for another Switchover."
    ),
    "NotAsked": Word("Nobody asks the host to hand the service over.", NOTHING),
    "NotComplete": Word("The service is not complete on the host, so it is not handed over yet.", NOTHING),
    # Teardown
    "PeerRuns": Word(
        "The host serves, and the other one's Heartbeat would take over: that one is stopped first.", NOTHING
    ),
    "Removed": Word("Nothing of the pair is left on the host but its data and the bonds.", NOTHING),
    "Removing": Word("What storagepair installed is being removed from the host.", NOTHING),
    "StillHeld": Word(
        "The mirrored device is in use although the service is stopped; nothing is pulled away.",
        "See who uses it on the host, and end that.",
    ),
    "Stopped": Word("Heartbeat and the service are stopped; the mirror stays up until both hosts are.", NOTHING),
    "Stopping": Word("Heartbeat and the service are being stopped.", NOTHING),
}
"""The meaning and the remedy of each in a condition."""

MOVE_WORDS: dict[MoveReason, Word] = {
    "NotActive": Word(
        "The service is not up on the host that shall hand it over.", "See who serves; ask for another Switchover."
    ),
    "NotUpToDate": Word("A copy of the data is not up to date.", "Wait for the pair to be Replicated."),
    "Refused": Word("The move was refused; nothing was changed.", "The message says why."),
    "Running": Word("The service is being handed over.", NOTHING),
    "Failed": Word("The move was begun and did not end as asked.", "The message says where to look."),
    "Succeeded": Word("The move has ended as asked.", NOTHING),
    "AlreadyCarriedOut": Word(
        "A request of that name was carried out before; this one is a replay.", "Another move needs another name."
    ),
    "HeartbeatBusy": Word(
        "Heartbeat was not at rest for 30 s: it starts or stops something, or its peer does.",
        "See /var/log/ha-log on both hosts; then [a Heartbeat that waits](../how-to/switchover.md). Ask again.",
    ),
    "MoveUnderWay": Word("Another move is under way on the host.", "Wait until it is over; ask again."),
    "Moved": Word("The service is up at the node that was asked for.", NOTHING),
    "NotConnected": Word(
        "The mirror's two halves are not connected.", "See the replication network, and `drbdadm status` on both hosts."
    ),
    "NotInstalled": Word("The host has no script for a move.", "The host is not set up yet; wait for NodesReady."),
    "NotPeer": Word("The host that was named is not the other one of the pair.", "Correct spec.to."),
    "NotReleased": Word(
        "Heartbeat did not release the service; it still serves there.",
        "See /var/log/ha-log on both hosts; then [a Heartbeat that waits](../how-to/switchover.md). Ask again.",
    ),
    "NotTakenOver": Word(
        "The service was released, and the other host did not take it in time.",
        "See who serves, and /var/log/ha-log on both hosts.",
    ),
    "PeerNotSeen": Word(
        "The two Heartbeats do not see each other as ready.", "Is the other host up, does Heartbeat run on both?"
    ),
    "TooLate": Word("The request's notAfter is over, or the host could not begin in time.", "Ask again."),
}
"""The same of what came of a move."""
