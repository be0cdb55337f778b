# shellcheck shell=sh disable=SC2154,SC2034
# storagepair: why the service left one node and came to the other, told by both: the one that releases leaves a marker on
# the storage, the one that takes over puts it into its journal. Needs common.sh and initiators.sh.

AWAIT_SECONDS=120 # for the first initiator that comes back

# Why is it released here? In $cause, with $request (of a Switchover) and $asked (microseconds). Before the port closes:
# the initiators feel nothing of the time this takes.
why_released() {
    cause=${STORAGEPAIR_CAUSE:-} request=- asked=-
    if [ -r "$RUN/intent" ]; then
        mv "$RUN/intent" "$RUN/reason" # a stop that fails is tried again, for the same reason
        read -r cause request asked <"$RUN/reason"
    elif [ -n "$tried_before" ] && [ -r "$RUN/reason" ]; then
        read -r cause request asked <"$RUN/reason"
    else
        [ -n "$cause" ] || guess_cause
        printf '%s - -\n' "$cause" >"$RUN/reason"
    fi
}

# From who runs us and what Heartbeat has just logged.
guess_cause() {
    cause=OperatorError # somebody ran the script by hand
    [ -n "${HA_FUNCS:-}" ] || return 0 # exported by Heartbeat's ResourceManager
    cause=Unknown
    ipfail=''
    while read -r line; do
        case $line in
            *" ipfail: "*"Giving up because"*) ipfail=yes ;;
            *"$node wants to go standby"*)
                cause=Planned
                [ -z "$ipfail" ] || cause=ServiceNetworkLost
                ipfail=''
                ;;
            *"Heartbeat shutdown in progress"*) cause=HeartbeatStopped ;;
        esac
    done <<END
$(tail -n 60 "$HA_LOG" 2>/dev/null)
END
}

# For the node that takes over: who released, when the port fell silent, why, and what this run has done so far. Written
# over what a start put there: a file system may be full by now.
leave_marker() {
    [ -d "$folder" ] || return 0
    # taken down for good: whatever starts the service the next time, that is no move
    [ "$cause" != Teardown ] || { printf '%s\n' - 2>/dev/null 1<>"$folder/active" || true; return 0; }
    wall_now
    {
        printf '%s %s %s %s\n' "$node" "$silent_at" "$mono" "$boot" &&
            printf 'cause %s\nrequest %s\nanswered %s\n' "$cause" "$request" "${answered:--}" &&
            [ "$asked" = - ] || printf 'asked %s\n' "$asked"
        printf 'vip-off %s\ntargets-off %s\nend\n' "$vip_off_at" "$wall"
    } 2>/dev/null 1<>"$folder/released" || true # the unmount makes it durable
}

# Nobody has released since. The blanks keep the space for the next marker, and a file keeps some for `move`: on a file
# system that is full by then, both must still be possible.
clear_marker() {
    printf '%1023s\n' '' 2>/dev/null 1<>"$folder/released"
    [ -s "$folder/reserve" ] || printf '%65536s' '' 2>/dev/null >"$folder/reserve"
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

# The end of the story, outside the critical path: why the service came here, made durable; then the initiators' return.
afterwards() {
    if [ "$last" != - ] && [ "$last" != "$node" ]; then
        if [ "$released_at" != - ]; then
            told_by_peer
        else
            peer_death
        fi
    fi
    clear_marker
    sync "$folder/active" "$folder/released" "$KEEP/journal.log"
    [ -z "$awaited" ] || initiators_return
    journal closed
    sync "$KEEP/journal.log"
    size=$(stat -c %s "$KEEP/journal.log")
    [ "${size:-0}" -lt 262144 ] || mv "$KEEP/journal.log" "$KEEP/journal.log.1"
}

# What the node that released had to say: why, and its phases by its own clock.
told_by_peer() {
    reason='' of='' sent=''
    while read -r what value _; do
        case $what in
            "$last") ;;
            end) break ;;
            cause) reason=$value ;;
            request) [ "$value" = - ] || of=$value ;;
            answered) sent=$value ;;
            *) journal peer "phase=$what" "at=$value" ;;
        esac
    done <"$folder/released"
    [ -z "$reason" ] || journal cause "name=$reason" ${of:+"request=$of"}
    case $sent in '' | -) ;; *) journal answered "last=$sent" ;; esac
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

# When the first of them logged in and was answered again. The kernel has the times; this only waits for them to exist.
initiators_return() {
    now
    deadline=$((mono + AWAIT_SECONDS * 100))
    while [ "$mono" -lt "$deadline" ]; do
        read_state
        [ "$state" = started ] || return 0
        if first_of resumed && [ -n "$oldest" ]; then
            answered_again=$oldest
            first_of logins
            # the two were read a program's start apart, and an age is exact to that only
            [ -z "$oldest" ] || [ "$oldest" -le "$answered_again" ] || oldest=$answered_again
            [ -z "$oldest" ] || journal first-login "at=$oldest"
            journal resumed "at=$answered_again"
            return 0
        fi
        sleep 1
        now
    done
}
