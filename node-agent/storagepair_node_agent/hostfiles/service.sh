# shellcheck shell=sh
# storagepair's service: taken over by `start` and released by `stop`, in the only safe order. Sourced by Heartbeat's
# resource script.
#   start: may I? -> promote -> mount -> targets, LUNs, ACLs -> VIP + gratuitous ARP -> open the port (last)
#   stop:  close the port (silently) -> VIP off -> connections and targets away -> unmount -> demote
# Heartbeat judges `status` by its words, retries a failed stop ten times and then reboots the machine if `status` still
# says "running": so a stop is bounded, and never claims to be done while anything is held.
# shellcheck source=common.sh
. /usr/lib/storagepair/common.sh
# shellcheck source=targets.sh
. /usr/lib/storagepair/targets.sh
# shellcheck source=initiators.sh
. /usr/lib/storagepair/initiators.sh
# shellcheck source=story.sh
. /usr/lib/storagepair/story.sh

START_SECONDS=60
PROMOTE_SECONDS=15
STOP_SECONDS=20

begin() {
    start_clock
    incident=$((base_wall / 1000000))-$node
    printf '\n' 2>/dev/null >>"$KEEP/journal.log" || true # whatever a power cut tore ends here
    journal begin
}

# set_role primary|secondary
set_role() {
    for program in /usr/lib/drbd/drbdsetup-84 /lib/drbd/drbdsetup-84; do
        [ -x "$program" ] || continue
        run "$program" "$1" "$minor"
        return
    done
    run drbdadm "$1" storagepair
}

# Become Primary: only with UpToDate data, never beside another Primary. A peer that is just releasing, or a connection
# that DRBD has not yet found dead, is waited for.
promote() {
    now
    deadline=$((mono + PROMOTE_SECONDS * 100))
    while :; do
        drbd_state
        [ "$role" != Primary ] || return 0
        case $disk in
            UpToDate)
                if [ "$peer_role" = Primary ]; then
                    why="the peer is Primary"
                elif set_role primary; then
                    return 0
                else
                    why="promotion refused: $said"
                fi
                ;;
            Inconsistent | Outdated | Diskless | Failed)
                why="the disk is $disk"
                return 1
                ;;
            *) why="the disk is ${disk:-not up}" ;;
        esac
        now
        [ "$mono" -lt "$deadline" ] && [ -z "$overdue" ] || return 1
        sleep 0.2
    done
}

mount_storage() {
    if storage_held; then
        storage_mounted && return 0
        why="$device is mounted elsewhere"
        return 1
    fi
    options=noatime
    # ext3 and ext4 would go on after damage to their metadata unless told otherwise; xfs stops by itself
    [ "$fstype" = xfs ] || options=noatime,errors=remount-ro
    run mount -t "$fstype" -o "$options" "$device" "$mount" || { why="mount: $said"; return 1; }
}

vip_is_here() {
    run ip -o -4 addr show dev "$bond" to "$vip" && [ -s "$RUN/said" ]
}

take_vip() {
    run ip addr add "$vip/$prefix" brd + dev "$bond" && return 0
    why="VIP: $said"
    vip_is_here
}

# Switches and initiators learn the VIP's new MAC address: five times, since any one may be lost.
announce_vip() {
    for program in /usr/libexec/heartbeat/send_arp /usr/lib/heartbeat/send_arp; do
        [ -x "$program" ] || continue
        "$program" -i 200 -r 5 -p "$RUN/send_arp.pid" "$bond" "$vip" auto not_used not_used \
            </dev/null >/dev/null 2>&1 9>&- &
        return
    done
    arping -q -U -c 3 -I "$bond" "$vip" </dev/null >/dev/null 2>&1 9>&- &
}

drop_vip() {
    run ip addr del "$vip/$prefix" dev "$bond" && return 0
    why="VIP: $said"
    vip_is_here || return 0
    return 1
}

# Unmount, a bounded number of times. The last resort kills whoever still has a file open (-M: only if it is a mount point).
unmount_storage() {
    tries=0
    while storage_held; do
        run umount "$mount" && continue
        why="unmount: $said"
        tries=$((tries + 1))
        [ "$tries" -lt 16 ] && [ -z "$overdue" ] || return 1
        [ "$tries" -ne 10 ] || { journal kill-holders; run fuser -k -M -m "$mount"; }
        sleep 0.2
    done
}

# udev may look into the device for a moment after the unmount: try again.
demote() {
    tries=0
    while :; do
        drbd_state
        [ "$role" = Primary ] || return 0
        set_role secondary && return 0
        why="demotion refused: $said"
        tries=$((tries + 1))
        [ "$tries" -lt 20 ] && [ -z "$overdue" ] || return 1
        sleep 0.1
    done
}

# Everything away, in the reverse order. Used by stop, and by a start that failed.
release() {
    close_port || return 1
    if [ -z "$silent_at" ]; then
        journal silent
        silent_at=$wall
        set_state "stopping $silent_at"
        read_records "$RUN/said" answered # closing the port told when each initiator was last answered
        answered=$newest
    fi
    drop_vip || return 1
    journal vip-off
    vip_off_at=$wall
    drbd_state
    [ -z "$suspended" ] || { why="DRBD's I/O is suspended"; return 1; }
    remove_targets || return 1
    journal targets-off
    # a start that failed leaves the word of whoever released before it, unless it was to mend what served here
    { [ "$verb" = start ] && [ "$last" != "$node" ]; } || ! storage_mounted || leave_marker
    unmount_storage || return 1
    journal unmounted
    demote || return 1
    journal demoted
}

give_up() {
    journal failed "$why"
    complain "start failed: $why"
    unbound
    bound "$STOP_SECONDS"
    if release; then
        set_state stopped
        journal end failed
    else
        journal held "$why"
    fi
    unbound
    exit 1
}

service_is_up() {
    drbd_state
    [ "$role" = Primary ] && storage_mounted && vip_is_here && exports_are_up || return 1
    [ "$exported" -eq 0 ] || port_is_open
}

start() {
    verb=start
    take_lock 30 || { complain "another start or stop does not end"; exit 1; }
    read_state
    if [ "$state" = started ]; then
        service_is_up && exit 0
        close_port || { complain "$why"; exit 1; } # parts are missing: what is still reachable must not refuse anybody
    fi
    set_state starting
    silent_at='' last=- cause=ResourceFailed
    begin
    bound "$START_SECONDS"
    promote || give_up
    journal promoted
    mount_storage || give_up
    journal mounted
    read_past
    add_exports || give_up
    journal targets
    take_vip || give_up
    journal vip
    announce_vip
    awaited=''
    if [ "$exported" -gt 0 ]; then
        open_port || give_up
        journal open
        tickle_peers
    fi
    [ -d "$folder" ] || mkdir "$folder"
    printf '%s\n' "$node" 2>/dev/null 1<>"$folder/active" || true # in place: a full file system takes that too
    set_state started
    journal end ok
    unbound
    # in braces: dash would keep the caller's output and our lock open beside a function's redirections
    { afterwards; } </dev/null >/dev/null 2>&1 9>&- &
    exit 0
}

stop() {
    verb='stop'
    take_lock 20 || { complain "another start or stop does not end"; exit 1; }
    read_state
    drbd_state
    case $state in
        starting | started | stopping) ;;
        *) [ "$role" = Primary ] || storage_held || exit 0 ;; # nothing of ours since the host booted
    esac
    tried_before=''
    [ "$state" != stopping ] || tried_before=yes
    set_state "stopping $silent_at"
    begin
    why_released
    bound "$STOP_SECONDS"
    if release; then
        set_state stopped
        journal end ok
        unbound
        exit 0
    fi
    journal failed "$why"
    complain "stop failed: $why"
    unbound
    exit 1
}

# Is any part of the service still held?
anything_held() {
    [ "$role" != Primary ] && ! storage_held && ! vip_is_here && [ ! -s "$RUN/targets" ] || return 0
    return 1
}

# Two readers: during and after a stop that has not ended, "running" means "any part is still held"; else "all is up".
status() {
    read_state
    drbd_state
    # on the way of every takeover: "stopped" must not cost a single fork
    if [ "$state" = stopping ] || { [ "$state" = started ] && [ "$role" = Primary ]; }; then
        bound 10
        case $state in
            stopping) anything_held ;;
            *) service_is_up ;;
        esac
        up=$?
        unbound
        [ "$up" -ne 0 ] || { echo running; exit 0; }
    fi
    echo stopped
    exit 3
}

read_conf || {
    complain "$CONF is missing or incomplete"
    case ${1-} in
        stop) exit 0 ;; # nothing was ever started here
        status) echo stopped; exit 3 ;;
        *) exit 1 ;;
    esac
}
case ${1-} in
    start) start ;;
    stop) stop ;;
    status) status ;;
    *)
        complain "usage: storagepair start|stop|status"
        exit 2
        ;;
esac
