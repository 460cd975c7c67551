#!/bin/sh
# Asks real QEMUs what commands they know, and stores the answers for the simulator.
#
#   ci/refresh-schema.sh BIN...    each a qemu-system-x86_64; its release names the file
#
# Writes sim/data/schema/<major>.<minor>.json.gz: the value of `query-qmp-schema`, byte for byte.
set -eu

folder=$(dirname "$0")/../sim/data/schema
mkdir -p "$folder"

for bin in "$@"; do
    # QEMU drops what it has not yet written when it quits: it is given time to write.
    said=$({
        echo '{"execute": "qmp_capabilities"}'
        echo '{"execute": "query-qmp-schema", "id": "schema"}'
        sleep 2
        echo '{"execute": "quit"}'
    } | "$bin" -accel tcg -machine none -nodefaults -display none -qmp stdio | tr -d '\r')
    release=$(printf '%s\n' "$said" |
        sed -n 's/.*"minor": \([0-9]*\), "major": \([0-9]*\)}.*/\2.\1/p' | head -n 1)
    schema=$(printf '%s\n' "$said" | sed -n 's/^{"return": \(.*\), "id": "schema"}$/\1/p')
    if [ -z "$schema" ]; then
        echo "$bin: no schema in what it said" >&2
        exit 1
    fi
    printf '%s' "$schema" | gzip -9n >"$folder/$release.json.gz"
    echo "$folder/$release.json.gz"
done
