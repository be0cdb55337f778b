# shellcheck shell=sh disable=SC2154,SC2034
# tgtd's side of storagepair's service: what the export table names goes into it, and away again. Needs common.sh.
# The table (on the replicated file system, written by the agent as a whole) has lines of single-blank separated fields:
#   target NAME TID IQN
#   lun NAME TID NUMBER FLAGS SCSI_ID SERIAL VENDOR PRODUCT PATH SIZE     FLAGS: tgtd's bsoflags, - for none; PATH below the mount
#   acl NAME TID ADDRESS
#   end                                                              the last line: without it the table is damaged

tgt() {
    run tgtadm --lld iscsi "$@"
}

# add_target TID IQN. Noted before it is made, so that a stop takes away whatever may have been made.
add_target() {
    printf '%s\n' "$1" >>"$RUN/targets"
    tgt --op new --mode target --tid "$1" -T "$2" || return 1
    # How long an initiator waits before it logs in again is the larger side's value (RFC 7143 13.15), so ours is none.
    # Without it the service is only slower to come back: no reason to fail a takeover.
    tgt --op update --mode target --tid "$1" --name DefaultTime2Wait --value 0 ||
        complain "target $1: initiators may wait 2 s more: $said"
}

# add_lun TID NUMBER FLAGS SCSI_ID SERIAL VENDOR PRODUCT PATH. Between the two calls the LUN has tgtd's own identity:
# never with an open port.
add_lun() {
    if [ "$3" = - ]; then
        tgt --op new --mode logicalunit --tid "$1" --lun "$2" -b "$mount/$8" || return 1
    else
        tgt --op new --mode logicalunit --tid "$1" --lun "$2" -b "$mount/$8" --bsoflags "$3" || return 1
    fi
    # thin_provisioning=0: tgtd then refuses UNMAP and WRITE SAME with UNMAP, so a thick LUN stays thick
    tgt --op update --mode logicalunit --tid "$1" --lun "$2" \
        --params "vendor_id=$6,product_id=$7,scsi_sn=$5,scsi_id=$4,thin_provisioning=0"
}

# remove_lun TID NUMBER: with the port closed no new command comes, so what is under way ends soon.
remove_lun() {
    tries=0
    until tgt --op delete --mode logicalunit --tid "$1" --lun "$2"; do
        case $said in
            *"can't find"*) return 0 ;;
            *"still active"*) ;;
            *) return 1 ;;
        esac
        tries=$((tries + 1))
        [ "$tries" -lt 50 ] && [ -z "$overdue" ] || return 1
        sleep 0.1
    done
}

# remove_target TID: its connections, LUNs and ACLs go with it.
remove_target() {
    tries=0
    until tgt --op delete --force --mode target --tid "$1"; do
        case $said in
            *"can't find"* | *"connect"* | *"failed to send"*) return 0 ;; # not there, or no tgtd that could hold anything
            *"still active"*) ;;                                           # a command is under way
            *) return 1 ;;
        esac
        tries=$((tries + 1))
        [ "$tries" -lt 50 ] && [ -z "$overdue" ] || return 1
        sleep 0.1
    done
}

remove_targets() {
    [ -r "$RUN/targets" ] || return 0
    while read -r tid; do
        remove_target "$tid" || { why="target $tid: $said"; return 1; }
    done <"$RUN/targets"
    printf '' >"$RUN/targets"
}

# A target that is there already is ours from an attempt that did not end (the port is closed): made anew. One of the
# same number with another name is somebody else's: never touched.
add_target_anew() {
    add_target "$1" "$2" && return 0
    case $said in *"already exists"*) ;; *) return 1 ;; esac
    tgtd_has "$1" "$2" || { said="target number $1 or the name $2 is taken by another target in tgtd"; return 1; }
    remove_target "$1" && add_target "$1" "$2"
}

# tgtd_has TID IQN
tgtd_has() {
    tgt --op show --mode target || return 1
    while read -r word number iqn _; do
        [ "$word" = Target ] && [ "$number" = "$1:" ] && [ "$iqn" = "$2" ] && return 0
    done <"$RUN/said"
    return 1
}

# Put all of the export table into tgtd; $exported counts its targets. A LUN whose file is gone is left out and
# journaled: the others are served.
add_exports() {
    exported=0
    printf '' >"$RUN/targets"
    [ -e "$folder/exports" ] || return 0
    complete=''
    while read -r kind name tid what flags scsi_id serial vendor product path _; do
        case $kind in
            target) add_target_anew "$tid" "$what" && exported=$((exported + 1)) ;;
            lun)
                if [ -f "$mount/$path" ]; then
                    add_lun "$tid" "$what" "$flags" "$scsi_id" "$serial" "$vendor" "$product" "$path"
                else
                    journal lun-missing "$name"
                fi
                ;;
            acl) tgt --op bind --mode target --tid "$tid" -I "$what" ;;
            end) complete=yes ;;
            *) true ;;
        esac || { why="$kind $name: $said"; return 1; }
    done <"$folder/exports"
    [ -n "$complete" ] || { why="the export table is damaged: its last line is missing"; return 1; }
}

# Is everything of the export table in tgtd?
exports_are_up() {
    exported=0
    [ -e "$folder/exports" ] || return 0
    tgt --op show --mode target || return 1
    found=' ' tid=''
    while read -r word number iqn _; do
        case $word in
            Target) tid=${number%:} found="$found$tid=$iqn " ;;
            LUN:) found="$found$tid/$number " ;;
        esac
    done <"$RUN/said"
    while read -r kind _ tid what _ _ _ _ _ path _; do
        case $kind in
            target) wanted="$tid=$what" exported=$((exported + 1)) ;;
            lun) [ -f "$mount/$path" ] || continue; wanted="$tid/$what" ;;
            *) continue ;;
        esac
        case $found in *" $wanted "*) ;; *) return 1 ;; esac
    done <"$folder/exports"
}
