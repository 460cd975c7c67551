# shellcheck shell=bash
# Which Debian archive this machine fetches from. Sourced by the scripts of this folder that fetch packages: they have
# `say MESSAGE` and `fail CODE MESSAGE`.

# The archive that this machine's own apt uses. It holds every suite, not only the one this machine runs.
mirror() {
  # apt itself replaces what is in $(...).
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(REPO_URI)' \
    'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' | awk 'NR == 1'
}

# Sets `mirror`, or fails.
need_mirror() {
  mirror=$(mirror)
  if [ -z "$mirror" ] && [ "$(id -u)" = 0 ]; then
    say "apt has no package lists yet: updating them"
    apt-get update -qq </dev/null >&2 || fail 1 "apt-get update failed (see above)"
    mirror=$(mirror)
  fi
  [ -n "$mirror" ] ||
    fail 75 "apt names no Debian archive on this machine: see 'apt-get indextargets', or have root run 'apt-get update'"
}
