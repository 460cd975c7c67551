#!/usr/bin/env bash
# ci/private-libvirtd.sh DIR: starts a libvirtd of one's own, without systemd, with all its state under DIR, and prints its URI.
#
# Needs root and Debian's libvirt-daemon-system and libvirt-clients. It ends by `kill "$(cat DIR/libvirtd.pid)"`; then DIR may go.
# Exit codes: 0 it answers; 75 it cannot be started here; 2 usage.
set -euo pipefail
if [ $# != 1 ]; then
  echo "usage: ci/private-libvirtd.sh DIR" >&2
  exit 2
fi
if [ "$(id -u)" != 0 ] || ! command -v libvirtd >/dev/null; then
  echo "private-libvirtd: it needs root and libvirtd" >&2
  exit 75
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
mkdir -p "$dir"/{etc,lib,cache,run,log}
cat >"$dir/etc/libvirtd.conf" <<END
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
END
cat >"$dir/etc/qemu.conf" <<END
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
dynamic_ownership = 0
stdio_handler = "file"
set_process_name = 0
END
mkdir -p /etc/libvirt /var/lib/libvirt /var/cache/libvirt /run/libvirt /var/log/libvirt
# In a mount namespace of its own, so that nothing outside DIR is written.
# shellcheck disable=SC2016 # the inner shell's own variables
setsid unshare --mount bash -c '
  mount --make-rprivate /
  mount --bind "$1/etc" /etc/libvirt
  mount --bind "$1/lib" /var/lib/libvirt
  mount --bind "$1/cache" /var/cache/libvirt
  mount --bind "$1/run" /run/libvirt
  mount --bind "$1/log" /var/log/libvirt
  exec libvirtd --pid-file "$1/libvirtd.pid"' _ "$dir" >"$dir/log/said" 2>&1 </dev/null &
uri="qemu+unix:///system?socket=$dir/run/libvirt-sock"
for _ in {1..100}; do
  if [ -S "$dir/run/libvirt-sock" ] && virsh -c "$uri" list >"$dir/log/list" 2>&1; then
    echo "$uri"
    exit 0
  fi
  sleep 0.1
done
if [ -f "$dir/libvirtd.pid" ]; then kill "$(cat "$dir/libvirtd.pid")"; fi
tail -n 3 "$dir/log/said" >&2
echo "private-libvirtd: it did not answer within 10 s" >&2
exit 75
