#!/usr/bin/env bash
# Builds a guest that boots in seconds: the kernel, busybox and the guest agent of the Debian release that this machine
# runs, and what is in ci/guest.
#
#   ci/build-guest.sh [DIR]            builds it, unless it is there; DIR is ~/.cache/freezeframe/guest unless named
#   ci/build-guest.sh --print [DIR]    names it if it is there; changes nothing
#
#   DIR/<version>/vmlinuz, initrd.img  what QEMU is started with
#   DIR/<version>/initrd-lvm.img       the same with LVM in it, for machines whose kernel has no device-mapper
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
readonly LVM_MODULES=(dm_mod dm_snapshot dm_thin_pool)

# What may be run of the packages in the guest, beside busybox.
readonly PROGRAMS=(qemu-ga mke2fs)
readonly LVM_PROGRAMS=(lvm)

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
  mapfile -t packages < <(with_libraries qemu-guest-agent e2fsprogs lvm2)
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

# Copies the programs $3... of $1/system and the libraries that they need into $1/$2.
add_programs() {
  local from=$1 to=$1/$2 name program libraries
  shift 2
  mkdir -p "$to"/{bin,lib}
  libraries=$(find "$from/system" -type d -name x86_64-linux-gnu | paste -sd :)
  for name; do
    program=$(program_of "$from/system" "$name")
    cp "$program" "$to/bin/"
    "$from/root/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" --list "$program" |
      sed -n 's/.* => \(.*\) (0x.*/\1/p' | xargs cp -Lt "$to/lib"
  done
}

# Makes the modules of the kernel's package ready to be copied.
ready_modules() {
  local busybox=$1/root/bin/busybox version
  # Since Debian 13 they lie elsewhere, and are compressed.
  if [ -d "$1/kernel/usr/lib/modules" ]; then mv "$1/kernel/usr/lib" "$1/kernel/"; fi
  version=$(basename "$1"/kernel/lib/modules/*)
  find "$1/kernel/lib/modules" -name '*.ko.xz' -exec "$busybox" xz -d {} +
  # A depmod that is not the kernel's own says what it does not know, and goes on.
  "$busybox" depmod -b "$1/kernel" "$version" 2>/dev/null
}

# Copies the modules $3... into $1/$2, each with those that it depends on: they are what the guest loads.
add_modules() {
  local busybox=$1/root/bin/busybox to=$1/$2 version folder module path
  folder=$(echo "$1"/kernel/lib/modules/*)
  version=${folder##*/}
  shift 2
  mkdir -p "$to/etc"
  for module; do
    # The kernel's names are written with either dash.
    path=$(sed -nE "s@^(.*/${module//_/[-_]}\.ko):@\1@p" "$folder/modules.dep")
    for path in $path; do
      mkdir -p "$to/lib/modules/$version/${path%/*}"
      cp "$folder/$path" "$to/lib/modules/$version/$path"
    done
  done
  cp "$folder"/modules.{builtin,order} "$to/lib/modules/$version/"
  "$busybox" depmod -b "$to" "$version" 2>/dev/null
  printf '%s\n' "$@" >"$to/etc/modules"
}

# What is in folder $1/$2, as a first file system.
packed() {
  (cd "$1/$2" && find . | LC_ALL=C sort | "$1/root/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -n)
}

# Builds in the folder $1.
build() {
  local root=$1/root loader
  unpack "$1" || fail 75 "its packages cannot be fetched here: see above"
  mkdir -p "$root"/{bin,lib,lib64,etc}
  loader=$(find "$1/system" -name ld-linux-x86-64.so.2 -print -quit)
  cp -L "$loader" "$root/lib64/"
  cp "$(program_of "$1/system" busybox)" "$root/bin/busybox"
  ln -s busybox "$root/bin/sh"
  ready_modules "$1"
  add_programs "$1" root "${PROGRAMS[@]}"
  add_modules "$1" root "${MODULES[@]}"
  add_programs "$1" lvm "${LVM_PROGRAMS[@]}"
  add_modules "$1" lvm "${MODULES[@]}" "${LVM_MODULES[@]}"
  mkdir -p "$1/lvm/etc/lvm"
  cp "$here/guest/lvm.conf" "$1/lvm/etc/lvm/"
  cp "$here/guest/init" "$root/init"
  cp "$here"/guest/{writer,agent} "$root/bin/"
  cp "$here/guest/fsfreeze-hook" "$root/etc/"
  chmod 755 "$root/init" "$root"/bin/{writer,agent} "$root/etc/fsfreeze-hook"

  packed "$1" root >"$1/initrd.img"
  # The kernel unpacks one behind the other.
  { cat "$1/initrd.img" && packed "$1" lvm; } >"$1/initrd-lvm.img"
  cp "$1"/kernel/boot/vmlinuz-* "$1/vmlinuz"
  "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/lib" "$root/bin/qemu-ga" --version |
    sed -nE 's/^QEMU Guest Agent ([0-9.]+).*/\1/p' >"$1/agent"
  [ -s "$1/agent" ] || fail 1 "the agent that was fetched does not start"
  (cd "$1/packages" && printf '%s\n' *.deb) >"$1/packages.txt"
  rm -rf "$1"/{apt,packages,system,kernel,root,lvm}
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
    if [ "$print" = 0 ]; then ln -sfn "$version" "$dir/current"; fi
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
