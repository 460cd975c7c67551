#!/usr/bin/env bash
# Random commands and bytes, told to the simulator and to real QEMUs of each release: a campaign, and a table of it.
#
#   ci/differential.sh [STEPS [SEED]]    10000 steps from seed 1 on, unless told
#
# So many steps over each program of each release, in pieces of 500. Each piece has the next seed, so that one with a
# finding is repeated by `ci/differential.sh 500 <its seed>`. What is found is shrunk and kept in target/tmp/differential.
# What is seen once and not again is a race of the real one's: a piece with one alone passes.
# Which QEMUs: those in FREEZEFRAME_QEMU, separated by `:`; else those that ci/install-qemu.sh has put into the cache.
#
# Exit codes: 0 nothing differs; 1 a finding; 2 usage; 75 no real QEMU.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:-10000} seed=${2:-1} piece=500
[[ $# -le 2 && $steps$seed =~ ^[0-9]+$ ]] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }

if [ -z "${FREEZEFRAME_QEMU+set}" ]; then
  mapfile -t binaries < <(ci/install-qemu.sh --print "${XDG_CACHE_HOME:-$HOME/.cache}/freezeframe/qemu")
  FREEZEFRAME_QEMU=$(IFS=:; echo "${binaries[*]}")
fi
if [ -z "$FREEZEFRAME_QEMU" ]; then
  echo "differential: no real QEMU: ci/install-qemu.sh gets them, FREEZEFRAME_QEMU names them" >&2
  exit 75
fi
export FREEZEFRAME_QEMU

log=$(mktemp)
trap 'rm -f "$log"' EXIT
code=0
for ((left = steps; left > 0; left -= piece, seed++)); do
  FREEZEFRAME_DIFFERENTIAL_STEPS=$((left < piece ? left : piece)) FREEZEFRAME_DIFFERENTIAL_SEED=$seed \
    cargo test --quiet --release --package freezeframe-tests --test differential | tee -a "$log" || code=1
done

# Each line of a program is `RELEASE N steps|pieces ..., N not simulated, N differ`, below the name of its test.
awk '
  / with seed /  { sub(/,.*/, ""); test = $0 }
  $3 ~ /^(steps|pieces)$/ {
    row = sprintf("%-5s %s", $1, test)
    told[row] += $2
    differ[row] += $(NF - 1)
    if (match($0, /[0-9]+ not simulated/)) unknown[row] += substr($0, RSTART)
    if (match($0, /[0-9]+ seen once/)) once[row] += substr($0, RSTART)
    if (!(row in order)) { order[row] = ++rows; name[rows] = row }
  }
  END {
    printf "%7s %13s %9s %6s  %s\n", "same", "not simulated", "seen once", "differ", "release and test"
    for (i = 1; i <= rows; i++) {
      row = name[i]
      printf "%7d %13d %9d %6d  %s\n", told[row], unknown[row], once[row], differ[row], row
    }
  }
' "$log"
exit "$code"
