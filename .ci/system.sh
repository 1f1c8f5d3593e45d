#!/usr/bin/env bash
# What the tests need from the operating system. In CI it is installed; elsewhere the tests that lack it are skipped.
set -euo pipefail

missing=
command -v g++ >/dev/null || missing="$missing g++"
command -v slurmctld >/dev/null || missing="$missing slurm-wlm"
command -v munged >/dev/null || missing="$missing munge"
command -v bwrap >/dev/null || missing="$missing bubblewrap"
command -v chromium >/dev/null || missing="$missing chromium"
[ -n "$missing" ] || exit 0
if [ "${CI:-}" != true ]; then
    echo "Not installed:$missing. The tests that need them are skipped. Debian: apt-get install$missing"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086  # several names
apt-get -qq install -y --no-install-recommends $missing >/dev/null
