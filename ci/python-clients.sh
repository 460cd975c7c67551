#!/usr/bin/env bash
# Installs QEMU's own Python client, qemu.qmp with qmp-shell, from PyPI into a virtual environment.
#
#   ci/python-clients.sh DIR    makes DIR, unless it is there already; then DIR/bin/python has qemu.qmp
#
# Exit codes: 0 it is there; 75 Python, its venv or the registry is missing.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1

if "$folder/bin/python" -c 'import qemu.qmp' 2>/dev/null; then exit 0; fi
python3 -m venv "$folder" || { echo "no python3 with venv" >&2; exit 75; }
"$folder/bin/pip" install --quiet --disable-pip-version-check qemu.qmp==0.0.6 ||
  { echo "qemu.qmp cannot be installed" >&2; exit 75; }
