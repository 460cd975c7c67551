#!/usr/bin/env bash
# Installs what tests hold the driver against, as Debian's packages, by groups:
#
#   ci/packages.sh storages      tools of the storages that the test `storage` makes for itself: btrfs, xfs, LVM
#   ci/packages.sh clusters      ZFS in userland and Ceph, for the same test: a hundred MiB and more
#   ci/packages.sh libvirt       libvirt and virsh, for the test `libvirt` and the benchmarks beside virsh; xmllint
#   ci/packages.sh --print GROUP...    what would be installed, a package a line; nothing is
#
# What is installed already is left as it is. No service is started.
# Exit codes: 0 all of it is here; 2 usage; 75 it may not install, has no way to, or apt failed: what is not here is skipped.
set -euo pipefail

usage() {
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
say() { echo "packages: $1" >&2; }

print='' packages=()
for word in "$@"; do
  case $word in
    --print) print=yes ;;
    # Without device-mapper in the kernel LVM still makes groups and volumes, and lists them.
    storages) packages+=(btrfs-progs xfsprogs lvm2) ;;
    clusters) packages+=(zfs-fuse ceph-mon ceph-osd ceph-common uuid-runtime) ;;
    # Without what it recommends: it would bring a QEMU of its own, and push out the tools of a newer one.
    libvirt) packages+=(libvirt-daemon-system libvirt-clients libxml2-utils) ;;
    *) usage ;;
  esac
done
if [ ${#packages[@]} = 0 ]; then usage; fi

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ -n "$print" ]; then
  [ ${#missing[@]} = 0 ] || printf '%s\n' "${missing[@]}"
  exit 0
fi
if [ ${#missing[@]} = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  say "not here: ${missing[*]}; root of a Debian machine installs them: apt-get install ${missing[*]}"
  exit 75
fi

# Whoever asks apt's policy is told that nothing is to be started; one that is there stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >&2; }
if ! install; then
  say "once more, with new lists of packages"
  apt-get update -qq </dev/null >&2 || { say "apt-get update failed (see above)"; exit 75; }
  install || { say "apt-get install failed (see above)"; exit 75; }
fi
