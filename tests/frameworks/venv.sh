#!/bin/sh
# Makes the virtual environment of tests/frameworks: venv.sh DIR (it comes to lie in DIR/venv). Nothing happens if it is up to date.
# The list is complete and its packages are installed without looking at what they ask for: PaddleClas pins an old NumPy that nothing else takes.
# A package that cannot be had costs only its own tests, which skip and say so.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
venv=$(cd "$1" && pwd)/venv
wanted=$(cat "$here/requirements.txt" "$here/venv.sh" | sha256sum | cut -d' ' -f1)
[ "$(cat "$venv/.larder-stamp" 2>/dev/null || true)" = "$wanted" ] && exit 0
python=/usr/bin/python3
[ -x $python ] || python=python3
rm -rf "$venv"
$python -m venv "$venv"
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps"
if ! $pip -r "$here/requirements.txt"; then
  while read -r package; do $pip "$package" || echo "venv.sh: cannot install $package" >&2; done <"$here/requirements.txt"
fi
echo "$wanted" >"$venv/.larder-stamp"
