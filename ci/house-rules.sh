#!/usr/bin/env bash
# The rules on who may know whom.
#
# - In driver/src, only env/tokio.rs and what is below it names tokio's time, net, process, fs and task: all else asks `Env`.
# - The driver does not depend on the simulator, nor the simulator on the driver: they share no code, so that one
#   cannot hide the other's mistake.
# - At the top of the tree lies what belongs there, and nothing that a run has left.
#
# Comments may name what they like. Every breach is shown; exit code 1 if there is one.
set -euo pipefail
cd "$(dirname "$0")/.."

breaches=0

# breach RULE WHERE
breach() {
  printf 'house rule broken: %s\n%s\n' "$1" "$2" >&2
  breaches=$((breaches + 1))
}

# `tokio::net`, and `net` anywhere in the braces of a `use tokio::{...}`, over several lines too.
# -z takes a file as one line, so that only the file is named; comment lines are dropped first.
forbidden='\btokio::((\{[^;]*[{,\s])?(time|net|process|fs|task)\b)'
while IFS= read -r file; do
  [[ $file != driver/src/env/tokio.rs && $file != driver/src/env/tokio/* ]] || continue
  if named=$(sed -E 's@^\s*//.*@@' "$file" | grep -zoP "$forbidden" | tr '\0' '\n'); then
    breach "only env/tokio touches the outside through tokio" "$file: $named"
  fi
done < <(find driver/src -name '*.rs' | sort)

# apart CRATE OTHER: nothing that CRATE builds, tests included, is OTHER.
apart() {
  local tree
  tree=$(cargo tree --package "$1" --edges all --all-features --prefix none)
  if tree=$(grep "^$2 " <<<"$tree"); then
    breach "$1 does not depend on $2" "$(sort -u <<<"$tree")"
  fi
}
apart freezeframe-driver freezeframe-sim
apart freezeframe-sim freezeframe-driver

known='.ci .gitignore Cargo.lock Cargo.toml LICENSE-APACHE LICENSE-MIT README.md ci clippy.toml deny.toml docs driver fuzz'
known+=' rustfmt.toml scenarios sim tests'
if strange=$(git ls-files | cut -d/ -f1 | sort -u | grep -vxF -f <(tr ' ' '\n' <<<"$known")); then
  breach "nothing else lies at the top of the tree" "$strange"
fi

[ "$breaches" = 0 ]
