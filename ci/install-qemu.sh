#!/usr/bin/env bash
# Puts real QEMU releases side by side under DIR, from the suites of the Debian archive.
#
#   ci/install-qemu.sh DIR [RELEASE...]    install what is missing; no RELEASE: all four that are supported
#   ci/install-qemu.sh --print DIR         list what is installed, one path a line; changes nothing
#
# A RELEASE is 5.2, 7.2, 10.0 or 11.1, or the name of a Debian suite, whatever QEMU that holds. It ends up in
#
#   DIR/<release>/bin/     qemu-system-x86_64, qemu-img, qemu-io, qemu-storage-daemon: small scripts that start
#   DIR/<release>/root/    the real ones here with their own libraries and firmware, on the host's own files
#   DIR/<release>/suites   the suites it came from
#
# and <release> is what the binary says of itself: suites move on, so asking for 11.1 may one day give 11.2.
#
# A release is built in a hidden folder, tried, and renamed when it is whole: an interrupted run leaves nothing that
# looks installed. What is installed and still works is left alone, so that a second run needs no network.
# DIR may be moved as a whole. It is no chroot: QEMU sees the host's files, sockets and /tmp.
#
# The last lines on standard output are `<release> <path of qemu-system-x86_64>`; all else goes to standard error.
# Exit codes: 0 done; 1 an install failed; 2 usage; 75 this machine cannot (not Debian on amd64, or a tool is missing).
set -euo pipefail

readonly RELEASES=(5.2 7.2 10.0 11.1)
readonly TOOLS=(qemu-system-x86_64 qemu-img qemu-io qemu-storage-daemon)

# shellcheck source=ci/debian.sh
. "$(dirname "$0")/debian.sh"

say() { printf 'install-qemu: %s\n' "$*" >&2; }

# fail CODE MESSAGE
fail() {
  say "$2"
  exit "$1"
}

usage() {
  echo "usage: ${0##*/} DIR [RELEASE...] | --print DIR" >&2
  exit 2
}

# The Debian suite that carries a release. A suite's own name stands for itself.
suite_of() {
  case $1 in
    5.2) echo bullseye ;;
    7.2) echo bookworm ;;
    10.0) echo trixie ;;
    11.1) echo sid ;;
    [a-z]*) echo "$1" ;;
    *) return 1 ;;
  esac
}

# What a folder holds --------------------------------------------------------------------------------------------

# The <major.minor> that the QEMU in folder $1 reports; fails unless all its tools start.
reported_release() {
  local tool
  for tool in "${TOOLS[@]}"; do
    "$1/bin/$tool" --version </dev/null >/dev/null 2>&1 || return 1
  done
  "$1/bin/qemu-system-x86_64" --version | sed -nE '1s/^QEMU emulator version ([0-9]+\.[0-9]+)\..*/\1/p'
}

# Every release under $1 that works, oldest first.
installed_releases() {
  local folder
  for folder in "$1"/*/; do
    folder=${folder%/}
    [ -e "$folder/suites" ] || continue
    if [ "$(reported_release "$folder")" = "${folder##*/}" ]; then echo "${folder##*/}"; fi
  done | sort -V
}

# The installed release under $1 that came from suite $2, if any.
release_from() {
  local release
  for release in $(installed_releases "$1"); do
    if grep -qxF -- "$2" "$1/$release/suites"; then
      echo "$release"
      return
    fi
  done
}

# What the machine must offer ------------------------------------------------------------------------------------

need_debian() {
  grep -qx 'ID="\?debian"\?' /etc/os-release 2>/dev/null ||
    fail 75 "the releases come from Debian's archive, and this is not a Debian system: use one, or a container of it"
  local arch
  arch=$(dpkg --print-architecture)
  [ "$arch" = amd64 ] || fail 75 "the releases are those of amd64, and this machine is $arch"
}

need_mmdebstrap() {
  if command -v mmdebstrap >/dev/null; then return; fi
  [ "$(id -u)" = 0 ] || fail 75 "mmdebstrap is missing: have root run 'apt-get install mmdebstrap'"
  say "installing mmdebstrap"
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends mmdebstrap </dev/null >&2 ||
    fail 1 "mmdebstrap could not be installed with apt-get (see above)"
}

# Installing one release -----------------------------------------------------------------------------------------

# Downloads and unpacks QEMU and what it links against from suite $1 into folder $2; $3 is a log.
unpack() {
  local mode=chrootless # no package script runs, so that nothing needs root
  if [ "$(id -u)" = 0 ]; then mode=root; fi
  # The machine's proxy, and its leave to use an archive of an earlier day, hold here too.
  apt-config dump Acquire >"$3.apt.conf"
  mmdebstrap --mode="$mode" --variant=extract --architectures=amd64 \
    --aptopt="$3.apt.conf" --aptopt='APT::Install-Recommends "false"' \
    --include=qemu-system-x86,qemu-utils,seabios,ipxe-qemu \
    "$1" "$2" "deb $mirror $1 main" </dev/null >"$3" 2>&1
}

# Keeps of the unpacked system $1 what QEMU needs to run, with all libraries in one folder and all firmware in another.
prune() {
  local root=$1 lib=usr/lib/x86_64-linux-gnu firmware=usr/share/qemu kept=$1.kept tool
  mkdir -p "$kept/usr/bin" "$kept/usr/lib" "$kept/usr/share"
  for tool in "${TOOLS[@]}"; do mv "$root/usr/bin/$tool" "$kept/usr/bin/"; done
  mv "$root/$lib" "$kept/$lib"
  mv "$root/$firmware" "$kept/$firmware"
  cp -a "$root/usr/share/seabios/." "$kept/$firmware/"
  # Before Debian 13 some libraries, the loader among them, and the network boot ROMs lay elsewhere.
  if [ -d "$root/lib/x86_64-linux-gnu" ]; then cp -a "$root/lib/x86_64-linux-gnu/." "$kept/$lib/"; fi
  if [ -d "$root/usr/lib/ipxe/qemu" ]; then cp -a "$root/usr/lib/ipxe/qemu/." "$kept/$firmware/"; fi
  rm -rf "$root" "$kept/$lib/gconv" "$kept/$lib/perl-base"
  mv "$kept" "$root"
}

# Writes the script that starts tool $1 of the folder $2.
write_wrapper() {
  local firmware=''
  # shellcheck disable=SC2016  # $root is for the wrapper to expand
  if [ "$1" = qemu-system-x86_64 ]; then firmware='-L "$root/usr/share/qemu" '; fi
  cat >"$2/bin/$1" <<WRAPPER
#!/bin/sh
# Starts $1 with the libraries of its own release.
here=\$(readlink -f -- "\$0")
root=\${here%/bin/*}/root
lib=\$root/usr/lib/x86_64-linux-gnu
QEMU_MODULE_DIR=\$lib/qemu
export QEMU_MODULE_DIR
exec "\$lib/ld-linux-x86-64.so.2" --library-path "\$lib:\$lib/pulseaudio" "\$root/usr/bin/$1" $firmware"\$@"
WRAPPER
  chmod 755 "$2/bin/$1"
}

# install SUITE: sets `release` to what was found there.
install() {
  local suite=$1 began=$SECONDS tool
  building=$(mktemp -d "$dir/.building.XXXXXX")
  say "$suite: fetching from $mirror"
  if ! unpack "$suite" "$building/root" "$building/log"; then
    tail -n 15 "$building/log" >&2
    fail 1 "$suite: QEMU could not be fetched from $mirror (mmdebstrap says why above); nothing of it was installed"
  fi
  prune "$building/root"
  mkdir "$building/bin"
  for tool in "${TOOLS[@]}"; do write_wrapper "$tool" "$building"; done
  release=$(reported_release "$building") || true
  if [ -z "$release" ]; then
    for tool in "${TOOLS[@]}"; do "$building/bin/$tool" --version >&2 || true; done
    fail 1 "$suite: what was fetched does not start (see above); nothing of it was installed"
  fi

  echo "$suite" >"$building/suites"
  if [ -e "$dir/$release/suites" ]; then cat "$dir/$release/suites" >>"$building/suites"; fi
  rm -rf "$building/log" "$building/log.apt.conf" "${dir:?}/$release"
  chmod 755 "$building" # mktemp made it private
  mv -T "$building" "$dir/$release"
  say "$suite: QEMU $release in $((SECONDS - began)) s, $(du -sm "$dir/$release" | cut -f1) MiB"
}

main() {
  if [ "${1-}" = --print ]; then
    [ $# = 2 ] || usage
    local release
    installed_releases "$2" | while IFS= read -r release; do
      printf '%s\n' "$(realpath -s -- "$2")/$release/bin/qemu-system-x86_64"
    done
    return
  fi

  case ${1-} in '' | -*) usage ;; esac
  local wanted suite release='' lines=()
  mkdir -p -- "$1"
  dir=$(cd -- "$1" && pwd)
  shift
  # The loader would split its list of folders there.
  case $dir in *[:\;]*) fail 2 "DIR may hold neither ':' nor ';': $dir" ;; esac
  if [ $# = 0 ]; then set -- "${RELEASES[@]}"; fi
  for wanted; do
    suite_of "$wanted" >/dev/null ||
      fail 2 "no Debian suite is known for QEMU $wanted: name one of ${RELEASES[*]}, or a suite"
  done

  # One at a time. Whoever holds the lock may sweep up after a run that was killed.
  exec 9>"$dir/.lock"
  flock -n 9 || { say "waiting for another install in $dir"; flock 9; }
  rm -rf "$dir"/.building.*
  building='' mirror=''
  trap 'rm -rf "${building:-}"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM

  for wanted; do
    suite=$(suite_of "$wanted")
    release=$(release_from "$dir" "$suite")
    if [ -z "$release" ]; then
      if [ -z "$mirror" ]; then need_debian && need_mmdebstrap && need_mirror; fi
      install "$suite"
    fi
    if [ "$wanted" != "$suite" ] && [ "$wanted" != "$release" ]; then
      say "asked for $wanted, but $suite has QEMU $release by now: it is installed as $release"
    fi
    lines+=("$release $dir/$release/bin/qemu-system-x86_64")
  done
  printf '%s\n' "${lines[@]}"
}

main "$@"
