#!/usr/bin/env bash
# A Ceph of one's own for tests: one monitor and one OSD in memory, without systemd and without a password.
#
#   ci/private-ceph.sh FOLDER PORT    starts it in FOLDER (made, and the caller's to remove), its monitor at 127.0.0.1:PORT
#
# Prints the path of its configuration, which `rbd` and `ceph` take from CEPH_CONF, once the pool `rbd` is there. It ends when
# the processes in FOLDER/*.pid are ended. Needs Debian's ceph-mon, ceph-osd, ceph-common and uuid-runtime, and root.
#
# Exit codes: 0 it runs; 1 it does not, and nothing of it is left running; 2 usage; 75 something it needs is not here.
set -euo pipefail
[ $# = 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1 port=$2
for program in ceph ceph-mon ceph-osd monmaptool rbd uuidgen; do
  command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 75; }
done
[ "$(id -u)" = 0 ] || { echo "not root" >&2; exit 75; }

mkdir -p "$folder"/{mon,osd}
fsid=$(uuidgen)
export CEPH_CONF=$folder/ceph.conf
cat >"$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon host = 127.0.0.1:$port
ms bind ipv6 = false
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
run dir = $folder
log file = $folder/\$name.log
admin socket = $folder/\$name.asok
pid file = $folder/\$name.pid
mon data = $folder/mon
osd data = $folder/osd
osd objectstore = memstore
memstore device bytes = 1073741824
public addr = 127.0.0.1
cluster addr = 127.0.0.1
CONF

# Whatever goes wrong, nothing is left running.
end() {
  local pid
  for pid in "$folder"/*.pid; do
    [ ! -e "$pid" ] || kill "$(<"$pid")" || true
  done
}
trap end ERR

{
  monmaptool --create --addv a "[v1:127.0.0.1:$port]" --fsid "$fsid" "$folder/monmap" --clobber
  ceph-mon --mkfs -i a --monmap "$folder/monmap"
  ceph-mon -i a
  osd=$(uuidgen)
  timeout 30 ceph osd new "$osd"
  ceph-osd -i 0 --mkfs --osd-uuid "$osd"
  ceph-osd -i 0
  for _ in {1..80}; do
    ! timeout 5 ceph osd stat | grep -q '1 up' || break
    sleep 0.25
  done
  timeout 20 ceph osd pool create rbd 8 8
  timeout 20 ceph osd pool set rbd size 1 --yes-i-really-mean-it
  timeout 20 rbd pool init rbd
} >"$folder/start.log" 2>&1
echo "$CEPH_CONF"
