#!/usr/bin/env bash
# The checks that need no test run: format, lints, lock files, house rules, shell scripts, dependencies.
#
#   ci/checks.sh    runs them by themselves; .ci/run sources it to run them among its stages
#
# Clippy's lists in clippy.toml hold determinism; ci/house-rules.sh holds what clippy has no word for.
# Two of them need shellcheck and cargo-deny: where those are not installed, the stage is skipped and counted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=ci/stages.sh
. ci/stages.sh

fmt() {
  cargo fmt --all --check && cargo fmt --manifest-path fuzz/Cargo.toml --check
}

# Both workspaces build what their Cargo.lock says.
lock-files() {
  cargo metadata --locked --format-version 1 >/dev/null &&
    cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
}

# have COMMAND HOW: is it installed? Otherwise says how to get it.
have() {
  command -v "$1" >/dev/null && return
  echo "$1 is not installed: $2"
  return 1
}

shell-scripts() {
  # On a machine of CI's own it is installed; anybody else's machine is left as it is.
  if [ -n "${CI-}" ] && [ "$(id -u)" = 0 ] && ! command -v shellcheck >/dev/null && command -v apt-get >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends shellcheck </dev/null || true
  fi
  have shellcheck "apt-get install shellcheck" || return 75
  # Beside the scripts, what a guest is built of has settings too: a script is what says so in its first line.
  local scripts
  mapfile -t scripts < <(grep -lE '^#!.*sh$' ci/guest/*)
  shellcheck ci/*.sh "${scripts[@]}" .ci/run
}

# deny CHECK...: runs these checks of deny.toml on both workspaces.
deny() {
  local workspace
  for workspace in Cargo.toml fuzz/Cargo.toml; do
    cargo deny --manifest-path "$workspace" --config deny.toml check "$@" || return 1
  done
}

dependencies() {
  have cargo-deny "cargo install --locked cargo-deny" || return 75
  deny licenses bans sources
}

advisories() {
  have cargo-deny "cargo install --locked cargo-deny" || return 75
  cargo deny fetch db || {
    echo "the advisory database cannot be reached"
    return 75
  }
  deny advisories
}

stage fmt fmt
stage clippy cargo clippy --workspace --all-targets -- -D warnings
stage lock-files lock-files
stage house-rules ci/house-rules.sh
stage shell-scripts shell-scripts
stage dependencies dependencies
stage advisories advisories
