#!/bin/sh
# Asks real QEMUs what they are able to do, and stores the answers for the simulator.
#
#   ci/refresh-introspection.sh BIN...    each a qemu-system-x86_64; its release names the files
#
# Writes, byte for byte as QEMU answers:
#   sim/data/schema/<major>.<minor>.json.gz           the value of `query-qmp-schema`
#   sim/data/introspection/<major>.<minor>.jsonl.gz   one line a question: the question, its answer; a tab between them
set -eu

data=$(dirname "$0")/../sim/data
mkdir -p "$data/schema" "$data/introspection"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What changes from run to run, or is nothing that a machine always says.
not_fixed='query-(block|block-exports|block-jobs|blockstats|chardev|command-line-options|commands|cpus|cpus-fast|current-machine|fdsets|iothreads|jobs|kvm|memdev|memory-size-summary|migrate|migrate-capabilities|migrate-parameters|migrate-cache-size|name|named-block-nodes|pci|qmp-schema|status|target|uuid|version|yank)'

# One device of each type that the simulator can have; its type is its id.
devices='pcie-root-port virtio-scsi-pci scsi-cd ide-cd virtio-serial-pci virtio-balloon-pci virtio-rng-pci pvpanic'

# A machine with those.
set_of_devices() {
    for drive in virtio-blk-pci scsi-hd; do
        set -- "$@" -blockdev "driver=null-co,size=16777216,read-zeroes=on,node-name=under-$drive"
    done
    for device in $devices; do
        set -- "$@" -device "$device,id=$device"
    done
    set -- "$@" -device virtio-blk-pci,id=virtio-blk-pci,drive=under-virtio-blk-pci
    set -- "$@" -device scsi-hd,id=scsi-hd,drive=under-scsi-hd
    set -- "$@" -chardev null,id=c -device virtserialport,id=virtserialport,chardev=c
    set -- "$@" -chardev "socket,id=chardev-socket,path=$work/socket,server=on,wait=off"
    set -- "$@" -object iothread,id=iothread -object throttle-group,id=throttle-group
    echo "$@"
}

# What management software asks a QEMU of which it knows nothing yet.
static_questions() {
    for command in $(zcat "$data/schema/$release.json.gz" | grep -o '"name": "query-[^"]*"[^}]*"meta-type": "command"' |
        sed 's/"name": "\([^"]*\)".*/\1/' | grep -Evx "$not_fixed" | sort); do
        echo "{\"execute\":\"$command\"}"
    done
    echo '{"execute":"query-command-line-options"}'
    echo '{"execute":"qom-list-types"}'
    echo '{"execute":"qom-list-types","arguments":{"implements":"device","abstract":false}}'
    for type in ICH9-LPC PIIX4_PM VGA ide-cd ide-hd intel-iommu kvm-pit mch nvdimm pcie-root-port qxl scsi-cd \
        scsi-hd usb-host usb-redir usb-storage vfio-pci vhost-user-fs-device virtio-balloon-ccw \
        virtio-balloon-device virtio-balloon-pci virtio-blk-ccw virtio-blk-pci virtio-gpu-device virtio-gpu-pci \
        virtio-iommu-pci virtio-mem-pci virtio-net-ccw virtio-net-pci virtio-scsi-ccw virtio-scsi-pci \
        virtio-serial-pci virtserialport vmware-svga; do
        echo "{\"execute\":\"device-list-properties\",\"arguments\":{\"typename\":\"$type\"}}"
    done
    for type in iothread machine memory-backend throttle-group x86_64-cpu; do
        echo "{\"execute\":\"qom-list-types\",\"arguments\":{\"implements\":\"$type\"}}"
    done
    for type in iothread scsi-hd throttle-group virtio-blk-pci virtio-scsi-pci max-x86_64-cpu memory-backend-file memory-backend-memfd none-machine pc-q35-machine; do
        echo "{\"execute\":\"qom-list-properties\",\"arguments\":{\"typename\":\"$type\"}}"
    done
}

# What the human monitor says of things that never change.
human_questions() {
    for topic in '' accelerators balloon capture cpustats cryptodev dirty_rate dump history hotpluggable-cpus kvm \
        memory-devices mice migrate migrate_cache_size network numa profile rdma replay sev sgx spice tpm usb \
        vm-generation-id vnc; do
        echo "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"info${topic:+ $topic}\"}}"
    done
    echo '{"execute":"human-monitor-command","arguments":{"command-line":"help"}}'
}

# What objects are made of: $1 is a line with the path of each.
objects() {
    for path in $1; do
        echo "{\"execute\":\"qom-list\",\"arguments\":{\"path\":\"$path\"}}"
    done
}

# The properties of all the objects that $1 lists, one by one, but for the time of day.
properties() {
    while IFS="$tab" read -r question answer; do
        path=$(echo "$question" | sed -n 's/.*"qom-list","arguments":{"path":"\([^"]*\)".*/\1/p')
        [ -z "$path" ] || echo "$answer" | grep -o '"name": "[^"]*"' | grep -v rtc-time | sed "s|.*: \"\(.*\)\"|{\"execute\":\"qom-get\",\"arguments\":{\"path\":\"$path\",\"property\":\"\1\"}}|"
    done <"$1"
}

# ask QUESTIONS ARGUMENTS...: writes each question, a tab, and what comes back for it. QEMU may end at a question: who
# is not answered is not written, and said.
ask() {
    questions=$1
    shift
    # QEMU drops what it has not yet written when it quits: it is given time to write.
    {
        echo '{"execute": "qmp_capabilities"}'
        awk '{ sub(/}$/, ",\"id\":" NR "}"); print }' "$questions"
        sleep 3
        echo '{"execute": "quit"}'
    } | "$bin" -accel tcg -machine q35 -m 64 -S -nodefaults -display none -qmp stdio "$@" 2>/dev/null |
        tr -d '\r' >"$work/said"
    awk -F "$tab" -v questions="$questions" '
        match($0, /, "id": [0-9]+}$/) {
            answers[substr($0, RSTART + 8, RLENGTH - 9)] = substr($0, 1, RSTART - 1) "}"
        }
        match($0, /^{"id": [0-9]+, /) { answers[substr($0, 8, RLENGTH - 9)] = "{" substr($0, RLENGTH + 1) }
        END {
            for (number = 1; (getline question < questions) > 0; number++)
                if (number in answers) print question "\t" answers[number]
                else print "no answer to " question > "/dev/stderr"
        }' "$work/said"
}

tab=$(printf '\t')
machine='/machine/unattached/device[0] /machine / /machine/unattached /machine/q35 /machine/q35/mch'
for bin in "$@"; do
    echo '{"execute":"query-qmp-schema"}' >"$work/questions"
    ask "$work/questions" >"$work/schema"
    release=$(sed -n 's/^{"QMP".*"minor": \([0-9]*\), "major": \([0-9]*\)}.*/\2.\1/p' "$work/said")
    sed 's/^[^\t]*\t{"return": \(.*\)}$/\1/' "$work/schema" | tr -d '\n' | gzip -9n >"$data/schema/$release.json.gz"

    {
        static_questions
        human_questions
        objects "$machine"
    } >"$work/questions"
    ask "$work/questions" >"$work/machine"
    properties "$work/machine" >"$work/questions"
    ask "$work/questions" >"$work/machine-properties"

    objects "$(for device in $devices virtio-blk-pci scsi-hd virtserialport; do
        echo "/machine/peripheral/$device /machine/peripheral/$device/virtio-backend"
    done) /chardevs/chardev-socket /objects/iothread /objects/throttle-group" >"$work/questions"
    # shellcheck disable=SC2046 # one word each
    ask "$work/questions" $(set_of_devices) | grep -v '"error": ' >"$work/devices"
    properties "$work/devices" >"$work/questions"
    # shellcheck disable=SC2046
    ask "$work/questions" $(set_of_devices) >"$work/device-properties"

    cat "$work/machine" "$work/machine-properties" "$work/devices" "$work/device-properties" |
        gzip -9n >"$data/introspection/$release.jsonl.gz"
    echo "$release: $(zcat "$data/introspection/$release.jsonl.gz" | wc -l) answers"
done
