#!/usr/bin/env bash
# A compiler for a campaign of `choice`, as cargo's RUSTC_WRAPPER: it counts what is reached in the driver and the target, and nowhere
# else. What the simulator, the runner and the libraries have passed through is not what is looked for, and to count it takes two
# thirds of the time.
set -euo pipefail
counting=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table)
case " $* " in
  *" --crate-name freezeframe_driver "* | *" --crate-name choice "*) exec "$@" "${counting[@]}" ;;
  *) exec "$@" ;;
esac
