#!/usr/bin/env bash
# Builds every fuzz target and runs each for a short, bounded time, from its corpus and a fixed seed.
#
#   ci/fuzz.sh [RUNS]    inputs per target; 20000 unless told
#
# A check that the targets build, hold on their corpora and on what lies near them; it is no campaign.
# Coverage instrumentation is a pass of the stable compiler, and the sanitizers that need nightly look for memory
# errors that a crate without `unsafe` cannot have: so neither nightly nor cargo-fuzz is needed.
#
# Exit codes: 0 held; 1 a finding, or a target that does not build; 75 no C++ compiler for libFuzzer.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=${1:-20000}
command -v "${CXX:-c++}" >/dev/null || {
  echo "fuzz: libFuzzer is C++, and there is no '${CXX:-c++}' here: install g++ or clang" >&2
  exit 75
}

# The flags that cargo-fuzz sets, but for the sanitizer. Naming the target keeps them off build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
RUSTFLAGS+=' -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table'
RUSTFLAGS+=' -Cllvm-args=-sanitizer-coverage-trace-compares'
export RUSTFLAGS
cargo build --manifest-path fuzz/Cargo.toml --release --target "$host"

scratch=$(mktemp -d) # new inputs go there: the corpus changes only by hand
trap 'rm -rf "$scratch"' EXIT
for source in fuzz/fuzz_targets/*.rs; do
  target=$(basename "$source" .rs)
  binary=fuzz/target/$host/release/$target artifacts=fuzz/artifacts/$target/ log=$scratch/$target.log
  mkdir -p "$scratch/$target" "$artifacts"
  if ! "$binary" -runs="$runs" -seed=1 -timeout=10 -max_total_time=120 -artifact_prefix="$artifacts" \
    "$scratch/$target" "fuzz/corpus/$target" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "fuzz: $target has a finding; to repeat it: $binary ${artifacts}<the file named above>" >&2
    exit 1
  fi
  echo "fuzz: $target: $(tail -n 1 "$log")"
done
