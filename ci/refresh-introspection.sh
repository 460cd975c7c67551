#!/bin/sh
# Asks real QEMUs what they are able to do, and stores the answers for the simulator.
#
#   ci/refresh-introspection.sh BIN...    each a qemu-system-x86_64; its release names the files
#
# Writes, byte for byte as QEMU answers:
#   sim/data/schema/<major>.<minor>.json.gz           the value of `query-qmp-schema`
#   sim/data/introspection/<major>.<minor>.jsonl.gz   one line a question: the command, its value; a tab between them
set -eu

data=$(dirname "$0")/../sim/data
mkdir -p "$data/schema" "$data/introspection"
questions=$(mktemp)
said=$(mktemp)
trap 'rm -f "$questions" "$said"' EXIT

# What management software asks a QEMU of which it knows nothing yet.
static_questions() {
    for command in query-machines query-cpu-definitions query-command-line-options query-tpm-models \
        query-tpm-types query-sev-capabilities query-sgx-capabilities query-gic-capabilities \
        query-hotpluggable-cpus query-memory-devices query-balloon qom-list-types; do
        echo "{\"execute\":\"$command\"}"
    done
    echo '{"execute":"qom-list-types","arguments":{"implements":"device","abstract":false}}'
    for type in ICH9-LPC PIIX4_PM VGA ide-cd ide-hd intel-iommu kvm-pit mch nvdimm pcie-root-port qxl scsi-cd \
        scsi-hd usb-host usb-redir usb-storage vfio-pci vhost-user-fs-device virtio-balloon-ccw \
        virtio-balloon-device virtio-balloon-pci virtio-blk-ccw virtio-blk-pci virtio-gpu-device virtio-gpu-pci \
        virtio-iommu-pci virtio-mem-pci virtio-net-ccw virtio-net-pci virtio-scsi-ccw virtio-scsi-pci \
        virtio-serial-pci virtserialport vmware-svga; do
        echo "{\"execute\":\"device-list-properties\",\"arguments\":{\"typename\":\"$type\"}}"
    done
    for type in max-x86_64-cpu memory-backend-file memory-backend-memfd none-machine pc-q35-machine; do
        echo "{\"execute\":\"qom-list-properties\",\"arguments\":{\"typename\":\"$type\"}}"
    done
    echo '{"execute":"qom-list","arguments":{"path":"/machine/unattached/device[0]"}}'
}

# ask BIN: sends $questions and writes what comes back to $said. Replies come in the order of the questions.
ask() {
    # QEMU drops what it has not yet written when it quits: it is given time to write.
    {
        echo '{"execute": "qmp_capabilities"}'
        cat "$questions"
        sleep 3
        echo '{"execute": "quit"}'
    } | "$1" -accel tcg -machine q35 -S -nodefaults -display none -qmp stdio 2>/dev/null | tr -d '\r' >"$said"
}

# answers: the values in $said, one a line; an empty line for what was refused. Not that of qmp_capabilities.
answers() {
    grep -v '"event": ' "$said" | sed -n 's/^{"return": \(.*\)}$/\1/p; s/^{"error": .*//p' | sed 1d
}

for bin in "$@"; do
    echo '{"execute":"query-qmp-schema"}' >"$questions"
    ask "$bin"
    release=$(sed -n 's/.*"minor": \([0-9]*\), "major": \([0-9]*\)}.*/\2.\1/p' "$said" | head -n 1)
    schema=$(answers | head -n 1)
    if [ -z "$schema" ]; then
        echo "$bin: no schema in what it said" >&2
        exit 1
    fi
    printf '%s' "$schema" | gzip -9n >"$data/schema/$release.json.gz"

    static_questions >"$questions"
    ask "$bin"
    # The processor's properties, one by one, are asked for too.
    answers | tail -n +"$(wc -l <"$questions")" | head -n 1 | grep -o '"name": "[^"]*"' |
        sed 's/.*: "\(.*\)"/{"execute":"qom-get","arguments":{"path":"\/machine\/unattached\/device[0]","property":"\1"}}/' \
            >"$said.more"
    cat "$said.more" >>"$questions"
    rm -f "$said.more"
    ask "$bin"
    answers | head -n "$(wc -l <"$questions")" | paste "$questions" - | grep -v "$(printf '\t')\$" | gzip -9n >"$data/introspection/$release.jsonl.gz"
    echo "$release: $(zcat "$data/introspection/$release.jsonl.gz" | wc -l) answers"
done
