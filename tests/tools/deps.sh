#!/bin/sh
# Installs Debian packages that are missing: deps.sh PACKAGE... Says nothing if there is nothing to do.
set -eu
missing=
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || { echo "deps.sh: no apt-get here: install what these Debian packages hold:$missing" >&2; exit 1; }
root=
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "deps.sh: not root and no sudo: run as root: apt-get install$missing" >&2; exit 1; }
  root=sudo
fi
echo "installing:$missing"
$root apt-get update -qq -o Acquire::Retries=3
# shellcheck disable=SC2086
$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 $missing >/dev/null
