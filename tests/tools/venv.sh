#!/bin/sh
# Makes the virtual environment of the tests: the S3 servers and clients of requirements.txt. Prints its folder.
# Usage: venv.sh [DIR]   (default: build/venv of this tree). Nothing happens if it is there and up to date; two calls at
# once wait for each other; a run that was interrupted is repeated.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../../build/venv}
mkdir -p "$(dirname "$venv")"
venv=$(cd "$(dirname "$venv")" && pwd)/$(basename "$venv")
wanted=$(cat "$here/requirements.txt" "$here/venv.sh" | sha256sum | cut -d' ' -f1)

(
  flock 9
  if [ "$(cat "$venv/.larder-stamp" 2>/dev/null || true)" != "$wanted" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv" >&2 || { echo "venv.sh: python3 -m venv failed (apt install python3-venv)" >&2; exit 1; }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
    echo "$wanted" >"$venv/.larder-stamp"
  fi
) 9>"$venv.lock"
echo "$venv"
