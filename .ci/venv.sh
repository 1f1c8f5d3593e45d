#!/usr/bin/env bash
# Builds the virtual environment named by the first argument from nothing but Python >= 3.11. Called by the Makefile.
set -euo pipefail
venv=$1

python=
for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.11 or newer is needed and none was found. Debian: apt-get install python3 python3-venv." \
        "Elsewhere: make PYTHON=/path/to/python" >&2
    exit 1
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "Python $version has no venv module. Debian: apt-get install python$version-venv" >&2
    exit 1
fi

echo "Building $venv with Python $version: torch, then the rest; a few minutes and some 2 GB (more with a CUDA build of torch)."
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv" # missing, broken or half made
pip=("$venv/bin/python" -m pip --disable-pip-version-check install -qq --no-compile)
# torch first and pinned: left to another package, pip would take the newest build whatever is at hand.
"${pip[@]}" "$(grep '^torch==' constraints.txt)"
echo "torch is there; now $(grep -c == constraints.txt) pinned packages."
"${pip[@]}" -c constraints.txt -e '.[all,dev]'
# on all cores, which pip does on one; some packages hold files that no Python 3 can read
"$venv/bin/python" -m compileall -q -j 0 "$venv/lib" >/dev/null 2>&1 || true

headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
missing=
command -v "${CXX:-g++}" >/dev/null || missing="$missing g++"
[ -f "$headers/Python.h" ] || missing="$missing python$version-dev"
if [ -n "$missing" ]; then
    echo "Everything is installed but a compiler or its headers. DeepSpeed on the CPU compiles its ops: those tests" \
        "are skipped until then. Debian: apt-get install$missing"
fi
