#!/usr/bin/env bash
# Builds every fuzz target and runs them, all for a short, bounded time or one for as long as it is told.
#
#   ci/fuzz.sh [RUNS]            every target: RUNS inputs (20000 unless told), from its corpus and a fixed seed; of `choice` a tenth,
#                                for each of its inputs is a machine's whole life, several times over
#   ci/fuzz.sh TARGET SECONDS    one target, from its corpus and a seed of its own: a campaign. That of `choice` has a build of its own,
#                                in which the driver alone is looked at: it takes three times as many inputs
#
# The first is a check that the targets build, hold on their corpora and on what lies near them, and for the gate.
# Coverage instrumentation is a pass of the stable compiler, and the sanitizers that need nightly look for memory
# errors that a crate without `unsafe` cannot have: so neither nightly nor cargo-fuzz is needed.
# What `choice` finds is shrunk to a scenario file where FREEZEFRAME_REGRESSIONS names a folder.
# Each target's words are in fuzz/dictionaries/. Of each the last line tells how many inputs it took, and how many a second.
#
# Exit codes: 0 held; 1 a finding, or a target that does not build; 2 no such target; 75 no C++ compiler for libFuzzer.
set -euo pipefail
cd "$(dirname "$0")/.."

# run TARGET OPTION...: runs it with these options of libFuzzer's.
run() {
  local target=$1 binary=$built/$host/release/$1 artifacts=fuzz/artifacts/$1/ log=$scratch/$1.log words=()
  shift
  mkdir -p "$scratch/$target" "$artifacts"
  [ ! -f "fuzz/dictionaries/$target.dict" ] || words=(-dict="fuzz/dictionaries/$target.dict")
  # A machine's life passes ten thousands of branches: to weigh its corpus by how rare each is takes four fifths of the time.
  [ "$target" != choice ] || words+=(-entropic=0)
  if ! "$binary" "$@" "${words[@]}" -timeout=10 -print_final_stats=1 -artifact_prefix="$artifacts" \
    "$scratch/$target" "fuzz/corpus/$target" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "fuzz: $target has a finding; to repeat it: $binary ${artifacts}<the file named above>" >&2
    return 1
  fi
  told() { sed -n "s/^stat::$1: *//p" "$log"; }
  echo "fuzz: $target: $(told number_of_executed_units) inputs, $(told average_exec_per_sec) a second," \
    "$(told new_units_added) of them new, at most $(told peak_rss_mb) MiB"
}

targets=()
for source in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$source" .rs)"); done
if [ $# = 2 ] && [[ " ${targets[*]} " != *" $1 "* ]]; then
  echo "fuzz: no target is called '$1'; there are: ${targets[*]}" >&2
  exit 2
fi
command -v "${CXX:-c++}" >/dev/null || {
  echo "fuzz: libFuzzer is C++, and there is no '${CXX:-c++}' here: install g++ or clang" >&2
  exit 75
}

# Naming the target keeps the flags off build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
built=fuzz/target
only=()
export RUSTFLAGS='--cfg fuzzing'
if [ $# = 2 ] && [ "$1" = choice ]; then
  export RUSTC_WRAPPER=$PWD/ci/fuzz-rustc.sh
  built=fuzz/target/choice
  only=(--bin choice)
else
  # The flags that cargo-fuzz sets, but for the sanitizer.
  RUSTFLAGS+=' -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
  RUSTFLAGS+=' -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table'
  RUSTFLAGS+=' -Cllvm-args=-sanitizer-coverage-trace-compares'
fi
cargo build --manifest-path fuzz/Cargo.toml --release --target "$host" --target-dir "$built" "${only[@]}"

scratch=$(mktemp -d) # new inputs go there: the corpus changes only by hand
trap 'rm -rf "$scratch"' EXIT
if [ $# = 2 ]; then
  run "$1" -max_total_time="$2"
else
  for target in "${targets[@]}"; do
    runs=${1:-20000}
    [ "$target" != choice ] || runs=$((runs / 10))
    run "$target" -runs="$runs" -seed=1 -max_total_time=120
  done
fi
