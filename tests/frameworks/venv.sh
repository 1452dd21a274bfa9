#!/bin/sh
# Makes the virtual environment of tests/frameworks: venv.sh DIR; DIR/venv comes to name it. Nothing happens if it is up to date.
# It lies in $XDG_CACHE_HOME/larder (~/.cache/larder), under a name that the list of packages gives: a fresh clone finds it, and pip's own
# cache serves the next list. The list is complete and its packages are installed without looking at what they ask for: PaddleClas pins an
# old NumPy that nothing else takes. A package that cannot be had costs only its own tests, which skip and say so; it is tried again next time.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/larder
mkdir -p "$1" "$cache"
python=/usr/bin/python3
[ -x $python ] || python=python3
key=$({ cat "$here/requirements.txt" "$here/venv.sh"; $python --version; } | sha256sum | cut -c1-12)
venv=$cache/frameworks-$key
exec 9>"$cache/frameworks.lock"
flock 9  # two clones, one cache
if [ ! -e "$venv/.complete" ]; then
  for old in "$cache"/frameworks-*; do [ "$old" = "$venv" ] || rm -rf "$old"; done
  [ -x "$venv/bin/python" ] || $python -m venv "$venv"
  pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps"
  if $pip -r "$here/requirements.txt"; then
    : >"$venv/.complete"
  else
    while read -r package; do $pip "$package" || echo "venv.sh: cannot install $package" >&2; done <"$here/requirements.txt"
  fi
fi
rm -rf "$1/venv"
ln -s "$venv" "$1/venv"
