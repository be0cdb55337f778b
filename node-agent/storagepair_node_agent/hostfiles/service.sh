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

# Who served last, and did it release cleanly? Journaled at once, before the next power cut can take it away.
read_past() {
    last=- released_by=- released_at=-
    [ -r "$folder/active" ] && read -r last <"$folder/active"
    if [ -s "$folder/released" ]; then
        read -r released_by released_at _ <"$folder/released"
        [ "$released_by" = "$last" ] || released_at=-
    fi
    journal past "last=$last" "released=$released_at"
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

# For the node that takes over: who released, when the port fell silent, and what this run has done so far.
leave_marker() {
    [ -d "$folder" ] || return 0
    wall_now
    { printf '%s %s %s %s\n' "$node" "$silent_at" "$mono" "$boot" && printf 'released %s\n' "$wall"; } \
        2>/dev/null >"$folder/released" || true # the unmount makes it durable
}

# Everything away, in the reverse order. Used by stop, and by a start that failed.
release() {
    close_port || return 1
    if [ -z "$silent_at" ]; then
        journal silent
        silent_at=$wall
        set_state "stopping $silent_at"
    fi
    drop_vip || return 1
    journal vip-off
    drbd_state
    [ -z "$suspended" ] || { why="DRBD's I/O is suspended"; return 1; }
    remove_targets || return 1
    journal targets-off
    [ "$verb" = start ] || ! storage_mounted || leave_marker
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
    silent_at=''
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
    if [ "$exported" -gt 0 ]; then
        open_port || give_up
        journal open
    fi
    [ -d "$folder" ] || mkdir "$folder"
    printf '%s\n' "$node" 2>/dev/null >"$folder/active" || true
    set_state started
    journal end ok
    unbound
    afterwards </dev/null >/dev/null 2>&1 9>&- &
    exit 0
}

# The end of the story, outside the critical path: why the service came here, made durable.
afterwards() {
    if [ "$last" != - ] && [ "$last" != "$node" ]; then
        if [ "$released_at" != - ]; then
            peer_phases
        else
            peer_death
        fi
    fi
    printf '' >"$folder/released"
    journal closed
    sync "$folder/active" "$folder/released" "$KEEP/journal.log"
    size=$(stat -c %s "$KEEP/journal.log")
    [ "${size:-0}" -lt 262144 ] || mv "$KEEP/journal.log" "$KEEP/journal.log.1"
}

# What the node that released had done, by its own clock.
peer_phases() {
    while read -r phase at _; do
        [ "$phase" = "$last" ] || journal peer "phase=$phase" "at=$at"
    done <"$folder/released"
}

# Heartbeat's last word about the peer's death, if it is about this takeover: within deadtime and a minute before it.
peer_death() {
    [ -r "$HA_LOG" ] || return 0
    stamp=''
    while read -r month day time line; do
        case $line in *"WARN: node $last: is dead") stamp="$month $day $time" ;; esac
    done <<END
$(tail -n 400 "$HA_LOG")
END
    [ -n "$stamp" ] || return 0
    died=$(date -d "$stamp" +%s) || return 0
    age=$((base_wall / 1000000 - died))
    [ "$age" -ge -2 ] && [ "$age" -le $((deadtime + 60)) ] || return 0
    journal lost "dead=$died" "deadtime=$deadtime"
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
    set_state "stopping $silent_at"
    begin
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
