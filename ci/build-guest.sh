#!/usr/bin/env bash
# Builds a guest that boots in seconds: the kernel, busybox and the guest agent of the Debian release that this machine
# runs, and what is in ci/guest.
#
#   ci/build-guest.sh [DIR]            builds it, unless it is there; DIR is ~/.cache/freezeframe/guest unless named
#   ci/build-guest.sh --print [DIR]    names it if it is there; changes nothing
#
#   DIR/<version>/vmlinuz, initrd.img  what QEMU is started with
#   DIR/<version>/agent                the release of the agent in it: 7.2.22
#   DIR/<version>/packages             what it was made of
#   DIR/current                        a link to the version of this script and of ci/guest
#
# It is built in a hidden folder and renamed when it is whole; a second run needs no network. It needs no root: packages are
# unpacked and not installed. The last line on standard output is the guest's folder; all else goes to standard error.
# Exit codes: 0 done; 1 it failed; 2 usage; 75 this machine cannot (not Debian on amd64, or apt has no packages for it).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

# shellcheck source=ci/debian.sh
. "$here/debian.sh"

say() { printf 'build-guest: %s\n' "$*" >&2; }

# fail CODE MESSAGE
fail() {
  say "$2"
  exit "$1"
}

# Kernel modules that the guest loads, with what they depend on, as far as they are not part of the kernel.
readonly MODULES=(crc32c_generic virtio_pci virtio_blk virtio_console ext4)

# What may be run of the packages in the guest, beside busybox.
readonly PROGRAMS=(qemu-ga mke2fs)

# Points apt at lists of its own in folder $1: those of this machine may be old, and what it has installed may be newer than any
# archive has, which then cannot be downloaded.
own_lists() {
  local suite
  # shellcheck source=/dev/null
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  need_mirror
  mkdir -p "$1"/{lists,cache}/partial
  : >"$1/status"
  echo "deb $mirror $suite main" >"$1/sources.list"
  cat >"$1/apt.conf" <<CONF
Dir::State::Lists "$1/lists";
Dir::State::status "$1/status";
Dir::Cache "$1/cache";
Dir::Etc::SourceList "$1/sources.list";
Dir::Etc::SourceParts "-";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
CONF
  # apt's own user may not enter a folder that is ours alone: so it stays who runs it.
  export APT_CONFIG=$1/apt.conf
  apt-get -qq update </dev/null >&2
}

# The names of packages and of the libraries that they need to run.
with_libraries() {
  printf '%s\n' "$@"
  apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" |
    grep -E '^(lib|zlib)' | grep -v perl | sort -u
}

# Unpacks everything into folders of $1: system (programs and libraries), kernel.
unpack() {
  local kernel packages package
  own_lists "$1/apt" || return 1
  kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
  [ -n "$kernel" ] || return 1
  mapfile -t packages < <(with_libraries qemu-guest-agent e2fsprogs)
  mkdir "$1/packages"
  (cd "$1/packages" && apt-get -qq download "$kernel" busybox-static "${packages[@]}" </dev/null >&2) || return 1
  for package in "$1"/packages/*.deb; do
    case ${package##*/} in
      linux-image-*) dpkg-deb -x "$package" "$1/kernel" ;;
      *) dpkg-deb -x "$package" "$1/system" ;;
    esac
  done
}

# The first file below folder $1 that has this name and, in Debian's packages, may be run.
program_of() {
  find "$1" -type f -name "$2" -perm -u=x -print -quit
}

# Copies a program of $1/system and the libraries that it needs into $1/root.
add_program() {
  local program libraries
  program=$(program_of "$1/system" "$2")
  libraries=$(find "$1/system" -type d -name x86_64-linux-gnu | paste -sd :)
  cp "$program" "$1/root/bin/"
  "$1/root/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" --list "$program" |
    sed -n 's/.* => \(.*\) (0x.*/\1/p' | xargs cp -Lt "$1/root/lib"
}

# Copies the modules into $1/root, each with those that it depends on.
add_modules() {
  local busybox=$1/root/bin/busybox version folder module path
  # Since Debian 13 they lie elsewhere, and are compressed.
  if [ -d "$1/kernel/usr/lib/modules" ]; then mv "$1/kernel/usr/lib" "$1/kernel/"; fi
  version=$(basename "$1"/kernel/lib/modules/*)
  folder=$1/kernel/lib/modules/$version
  find "$folder" -name '*.ko.xz' -exec "$busybox" xz -d {} +
  # A depmod that is not the kernel's own says what it does not know, and goes on.
  "$busybox" depmod -b "$1/kernel" "$version" 2>/dev/null
  for module in "${MODULES[@]}"; do
    path=$(sed -nE "s@^(.*/$module\.ko):@\1@p" "$folder/modules.dep")
    for path in $path; do
      mkdir -p "$1/root/lib/modules/$version/${path%/*}"
      cp "$folder/$path" "$1/root/lib/modules/$version/$path"
    done
  done
  cp "$folder"/modules.{builtin,order} "$1/root/lib/modules/$version/"
  "$busybox" depmod -b "$1/root" "$version" 2>/dev/null
  printf '%s\n' "${MODULES[@]}" >"$1/root/etc/modules"
}

# Builds in the folder $1.
build() {
  local root=$1/root loader program
  unpack "$1" || fail 75 "its packages cannot be fetched here: see above"
  mkdir -p "$root"/{bin,lib,lib64,etc}
  loader=$(find "$1/system" -name ld-linux-x86-64.so.2 -print -quit)
  cp -L "$loader" "$root/lib64/"
  cp "$(program_of "$1/system" busybox)" "$root/bin/busybox"
  ln -s busybox "$root/bin/sh"
  for program in "${PROGRAMS[@]}"; do add_program "$1" "$program"; done
  add_modules "$1"
  cp "$here/guest/init" "$root/init"
  cp "$here"/guest/{writer,agent} "$root/bin/"
  cp "$here/guest/fsfreeze-hook" "$root/etc/"
  chmod 755 "$root/init" "$root"/bin/{writer,agent} "$root/etc/fsfreeze-hook"

  (cd "$root" && find . | LC_ALL=C sort | bin/busybox cpio -o -H newc 2>/dev/null | gzip -n) >"$1/initrd.img"
  cp "$1"/kernel/boot/vmlinuz-* "$1/vmlinuz"
  "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/lib" "$root/bin/qemu-ga" --version |
    sed -nE 's/^QEMU Guest Agent ([0-9.]+).*/\1/p' >"$1/agent"
  [ -s "$1/agent" ] || fail 1 "the agent that was fetched does not start"
  (cd "$1/packages" && printf '%s\n' *.deb) >"$1/packages.txt"
  rm -rf "$1"/{apt,packages,system,kernel,root}
  mv "$1/packages.txt" "$1/packages"
}

main() {
  local print=0 dir version building
  if [ "${1-}" = --print ]; then
    print=1
    shift
  fi
  case ${1-} in -*) fail 2 "usage: ${0##*/} [--print] [DIR]" ;; esac
  dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/freezeframe/guest}
  version=$(cd "$here" && cat build-guest.sh guest/* | sha256sum | cut -c 1-12)
  if [ -d "$dir/$version" ]; then
    echo "$(cd "$dir" && pwd)/$version"
    return
  fi
  if [ "$print" = 1 ]; then return; fi
  grep -qx 'ID="\?debian"\?' /etc/os-release 2>/dev/null || fail 75 "it is made of Debian's packages, and this is no Debian system"
  [ "$(dpkg --print-architecture)" = amd64 ] || fail 75 "it is made of packages for amd64"

  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  building=$(mktemp -d "$dir/.building.XXXXXX")
  # shellcheck disable=SC2064  # the folder of this run
  trap "rm -rf '$building'" EXIT
  build "$building"
  chmod 755 "$building" # mktemp made it private
  # Another run may have been faster.
  mv -T "$building" "$dir/$version" 2>/dev/null || [ -d "$dir/$version" ]
  ln -sfn "$version" "$dir/current"
  say "$version: agent $(cat "$dir/$version/agent"), $(du -sm "$dir/$version" | cut -f1) MiB, $SECONDS s"
  echo "$dir/$version"
}

main "$@"
