# shellcheck shell=sh disable=SC2154,SC2034
# The initiators, as this host can see them: their connections, and when each was last answered. Needs common.sh.
# The port's nftables table notes, by address, the last SCSI response that left (`answered`) and, since the port was
# opened, the first login response (`logins`) and the first SCSI response (`resumed`): an element's age is the kernel's
# own measure, so nothing here has to poll in time. See port.nft, made by the agent.

RECORD_MILLISECONDS=3600000 # the sets' timeout, as in port.nft

# milliseconds 59m58s123ms: in $span. nftables' way to write a time.
milliseconds() {
    span=0 left=$1
    while [ -n "$left" ]; do
        count=${left%%[!0-9]*}
        [ -n "$count" ] || { span=''; return 1; }
        left=${left#"$count"}
        unit=${left%%[0-9]*}
        left=${left#"$unit"}
        case $unit in
            d) span=$((span + count * 86400000)) ;;
            h) span=$((span + count * 3600000)) ;;
            m) span=$((span + count * 60000)) ;;
            s) span=$((span + count * 1000)) ;;
            ms) span=$((span + count)) ;;
            *) span=''; return 1 ;;
        esac
    done
}

# read_records FILE SET: the wall clock times, in microseconds, of the oldest and the newest element of a set in nftables'
# listing, in $oldest and $newest; empty when it has none. Call wall_now right after the listing was made.
read_records() {
    oldest='' newest='' least='' most='' expires='' of=''
    while read -r line; do
        case $line in "set "*) of=${line#set } of=${of%% *} ;; esac
        [ "$of" = "$2" ] || continue
        for word in $line; do
            if [ -n "$expires" ] && milliseconds "${word%,}"; then
                [ -n "$least" ] && [ "$least" -le "$span" ] || least=$span
                [ -n "$most" ] && [ "$most" -ge "$span" ] || most=$span
            fi
            expires=''
            [ "$word" != expires ] || expires=yes
        done
    done <"$1"
    [ -n "$least" ] || return 0
    oldest=$((wall - (RECORD_MILLISECONDS - least) * 1000))
    newest=$((wall - (RECORD_MILLISECONDS - most) * 1000))
}

# first_of SET: when its oldest element came, in $oldest; empty for an empty set.
first_of() {
    oldest=''
    nft list set inet storagepair "$1" </dev/null >"$RUN/records" 2>/dev/null 9>&- || return 1
    wall_now
    read_records "$RUN/records" "$1"
}

# The connections to the virtual IP, noted on the storage for the node that takes over. Written only when they change:
# it has to be on both disks before a power cut, and a flush is not for nothing.
remember_peers() {
    ss -Htn state established sport = :3260 </dev/null >"$RUN/connections" 2>/dev/null 9>&- || return 0
    peers=''
    while read -r _ _ local remote _; do
        local=${local#\[::ffff:} remote=${remote#\[::ffff:}
        [ "${local%%[\]:]*}" = "$vip" ] || continue
        peers="$peers${remote%%[\]:]*}:${remote##*:}
"
    done <"$RUN/connections"
    known=''
    while read -r remote; do
        known="$known$remote
"
    done 2>/dev/null <"$folder/peers"
    [ "$peers" != "$known" ] || return 0
    printf '%s' "$peers" 2>/dev/null >"$folder/peers.new" && mv -T "$folder/peers.new" "$folder/peers" && sync "$folder/peers"
}

# Say something to each initiator that was connected before: its machine answers, is told by this one that there is no
# such connection, and logs in again at once instead of after its next retransmission.
tickle_peers() {
    awaited=''
    [ -s "$folder/peers" ] || return 0
    lines=''
    while read -r remote; do
        case $remote in *[!0-9.:]* | '') continue ;; esac
        lines="$lines$vip:3260 $remote
"
    done <"$folder/peers"
    [ -n "$lines" ] || return 0
    awaited=yes
    for program in /usr/libexec/heartbeat/tickle_tcp /usr/lib/heartbeat/tickle_tcp; do
        [ -x "$program" ] || continue
        printf '%s' "$lines" >"$RUN/tickle"
        "$program" -n 3 <"$RUN/tickle" >/dev/null 2>&1 9>&- &
        return 0
    done
}
