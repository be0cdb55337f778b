# shellcheck shell=sh disable=SC2034
# What storagepair's host scripts share: configuration, DRBD's state, journal, lock, port.
# Sourced by our own scripts only. Every fork costs 1 ms on hardware and 25 ms on a slow machine, and all of them lie on
# the failover path: so state is read with `read` from /proc and /sys, and a step is one program.

PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 022

CONF=/etc/storagepair/service.conf
PORT_TABLE=/etc/storagepair/port.nft
RUN=/run/storagepair
KEEP=/var/lib/storagepair
HA_LOG=/var/log/ha-log
HA_PID=/run/heartbeat.pid
PROC=/proc
SYSFS=/sys/fs

mono=0 base_mono=0 base_wall=0 boot=- incident=- verb=-
state='' silent_at='' overdue='' why='' said='' watchdog=''
answered='' vip_off_at='' cause='' request=- asked=- awaited=''

# complain WORDS: for the caller's log
complain() {
    printf 'storagepair: %s\n' "$*" >&2
}

# The host's configuration: lines of "key value", written by the agent, never evaluated.
read_conf() {
    node='' peer='' minor='' device='' fstype='' mount='' vip='' prefix='' bond='' deadtime=''
    [ -r "$CONF" ] || return 1
    while read -r key value; do
        case $key in
            node) node=$value ;;
            peer) peer=$value ;;
            minor) minor=$value ;;
            device) device=$value ;;
            fstype) fstype=$value ;;
            mount) mount=$value ;;
            vip) vip=$value ;;
            prefix) prefix=$value ;;
            bond) bond=$value ;;
            deadtime) deadtime=$value ;;
        esac
    done <"$CONF"
    [ -n "$node" ] && [ -n "$peer" ] && [ -n "$minor" ] && [ -n "$device" ] && [ -n "$fstype" ] && [ -n "$mount" ] &&
        [ -n "$vip" ] && [ -n "$prefix" ] && [ -n "$bond" ] && [ -n "$deadtime" ] || return 1
    folder=$mount/.storagepair
}

# What DRBD says of our device; everything empty when the resource is not up.
drbd_state() {
    connection='' role='' peer_role='' disk='' peer_disk='' suspended=''
    [ -r "$PROC/drbd" ] || return 1
    while read -r number cs ro ds protocol flags _; do
        [ "$number" = "$minor:" ] || continue
        connection=${cs#cs:}
        case $ro in ro:*/*) ro=${ro#ro:} role=${ro%%/*} peer_role=${ro#*/} ;; esac
        case $ds in ds:*/*) ds=${ds#ds:} disk=${ds%%/*} peer_disk=${ds#*/} ;; esac
        case $protocol in ?) ;; *) flags=$protocol ;; esac # StandAlone has no protocol
        case $flags in s*) suspended=yes ;; esac # its I/O waits for a fencing decision: touch nothing that reads or writes it
        return 0
    done <"$PROC/drbd"
    return 1
}

# Is the device's file system mounted anywhere, in any mount namespace? (No read of a long mount table, no fork.)
storage_held() {
    [ -d "$SYSFS/ext4/${device##*/}" ] || [ -d "$SYSFS/xfs/${device##*/}" ]
}

# Is it mounted where it belongs?
storage_mounted() {
    storage_held || return 1
    while read -r source target _; do
        [ "$target" = "$mount" ] && [ "$source" = "$device" ] && return 0
    done <"$PROC/mounts"
    return 1
}

# The monotonic clock in hundredths of a second, without a fork.
now() {
    read -r mono _ <"$PROC/uptime"
    mono=${mono%.*}${mono#*.}
}

# The only look at the wall clock in a run; the rest is computed from the monotonic clock. Starting a program takes a busy
# machine a while, and it looks at the clock somewhere within: half of that is how wrong a time can be.
start_clock() {
    now
    base_mono=$mono
    base_wall=$(date +%s%6N)
    now
    base_mono=$(((base_mono + mono) / 2))
    read -r boot <"$PROC/sys/kernel/random/boot_id"
}

# The wall clock now, in microseconds since 1970, in $wall.
wall_now() {
    now
    wall=$((base_wall + (mono - base_mono) * 10000))
}

# journal PHASE [FACT...]: append one line to the journal. A full or read-only disk must not stop a failover.
journal() {
    wall_now
    printf '1 %s %s %s %s %s %s\n' "$incident" "$boot" "$mono" "$wall" "$verb" "$*" 2>/dev/null >>"$KEEP/journal.log" || true
}

# The service's state on this host since it booted: starting, started, stopping (with the time the port fell silent), stopped.
read_state() {
    state='' silent_at=''
    [ -r "$RUN/state" ] && read -r state silent_at <"$RUN/state"
    return 0
}

set_state() {
    printf '%s\n' "$*" >"$RUN/state"
}

# take_lock SECONDS: one change of the service at a time. Held by file descriptor 9 until the script ends.
take_lock() {
    [ -d "$RUN" ] || mkdir -p "$RUN" || return 1
    exec 9>"$RUN/service.lock"
    flock -w "$1" 9
}

# bound SECONDS: after that, a program that run() waits for is no longer waited for, and $overdue says so.
bound() {
    overdue=''
    trap 'overdue=yes' ALRM
    {
        timer='' ended=''
        trap 'ended=yes; [ -z "$timer" ] || kill "$timer"' TERM # in time: leave no sleeper behind
        sleep "$1" &
        timer=$!
        [ -z "$ended" ] || kill "$timer"
        wait "$timer" && kill -ALRM $$
    } </dev/null >/dev/null 2>&1 9>&- &
    watchdog=$!
}

unbound() {
    [ -z "$watchdog" ] || kill "$watchdog" 2>/dev/null
    watchdog=''
}

# run PROGRAM ARGUMENT...: its exit code, the first line that it printed in $said. In the background, so that a program
# which hangs on a suspended device cannot hang us: `wait` ends when the bound is reached.
run() {
    said="no time left for $1"
    [ -z "$overdue" ] || return 1
    said=''
    "$@" </dev/null >"$RUN/said" 2>&1 9>&- &
    wait $!
    code=$?
    [ "$code" -eq 0 ] || read -r said <"$RUN/said"
    [ -z "$overdue" ] || said="no end within the time limit: $1"
    return "$code"
}

# Is the port's table in the kernel, and open for our address? The kernel's answer, not the cached one.
port_is_open() {
    run nft get element inet storagepair open "{ $vip }"
}

# Close the port silently: packets to and from VIP:3260 are dropped, so neither FIN nor RST leaves. Idempotent. Where
# somebody flushed the rule set, the table comes back, closed. $RUN/said then lists when each initiator was last answered.
# The notes of who came back are made empty here, where nobody waits: behind a closed port nothing is noted.
close_port() {
    closing='list set inet storagepair answered; flush set inet storagepair open'
    closing="$closing; flush set inet storagepair logins; flush set inet storagepair resumed"
    run nft "$closing" || run nft -f "$PORT_TABLE" || { why="port: $said"; return 1; }
    printf 'closed\n' >"$RUN/port"
}

open_port() {
    opening="add element inet storagepair open { $vip }"
    run nft "$opening" || { run nft -f "$PORT_TABLE" && run nft "$opening"; } || { why="port: $said"; return 1; }
    printf 'open\n' >"$RUN/port"
}

# Does Heartbeat run on this host? (Its own pid file: systemd's word proves nothing, and no fork.)
heartbeat_runs() {
    ha_pid=''
    [ -r "$HA_PID" ] && read -r ha_pid <"$HA_PID"
    [ -n "$ha_pid" ] && [ -d "$PROC/$ha_pid" ]
}

# By Heartbeat's own word, nothing is being started or stopped, here or at its peer as far as it was told. A request for a
# move is made only then: one that this side drops has reached the peer all the same, which takes up its part of the move,
# waits for an hour, and answers no other request meanwhile.
heartbeat_rests() {
    case $(cl_status rscstatus) in all | local | foreign | none) ;; *) return 1 ;; esac
}
