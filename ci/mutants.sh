#!/usr/bin/env bash
# Changes a line of how plans are made, or of a step, and looks whether the driver's own tests or the suite see it; then another one.
#
#   ci/mutants.sh K/N     every N-th of all such changes, beginning with the K-th, counted from 0
#   ci/mutants.sh         all of them: 1,900 changes, a day of one machine
#
# It works in a clone of its own, which it removes. Which files and tests: ci/mutants.toml. A change that is not seen is named,
# and more than a tenth of them are a failure.
#
# Exit codes: 0 at most a tenth were missed; 1 more were, or something failed; 2 no such part; 75 there is no cargo-mutants.
set -euo pipefail
cd "$(dirname "$0")/.."

part=${1:-0/1}
if ! [[ $part =~ ^[0-9]+/[1-9][0-9]*$ ]] || [ "${part%/*}" -ge "${part#*/}" ]; then
  echo "mutants: '$part' is no part: say K/N, K from 0 to N-1" >&2
  exit 2
fi
cargo mutants --version >/dev/null 2>&1 || {
  echo "mutants: there is no cargo-mutants here: cargo install --locked cargo-mutants" >&2
  exit 75
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git clone --quiet . "$scratch/clone"
cd "$scratch/clone"
cargo test --quiet --profile mutants --package freezeframe-driver --package freezeframe-tests --lib --test suite >/dev/null
# What is missed ends it with 2, what never ends with 3: the counts decide here.
cargo mutants --config ci/mutants.toml --in-place --baseline skip --timeout 300 --build-timeout 600 --no-shuffle --shard "$part" --sharding round-robin \
  --output "$scratch" || [ $? = 2 ] || [ $? = 3 ]
count() { wc -l <"$scratch/mutants.out/$1.txt"; }
caught=$(($(count caught) + $(count timeout)))
missed=$(count missed)
echo "mutants: part $part: $((caught + missed)) changes, $missed missed, $(count unviable) that do not build"
[ $((missed * 10)) -le $((caught + missed)) ]
