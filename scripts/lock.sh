#!/usr/bin/env bash
# Writes requirements/lock.txt anew from pyproject.toml; requirements/README.md says what and why.
# Pins that still fit are kept; UPGRADE=1 takes the newest versions. Uses the `uv` on the PATH, else one of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! uv=$(command -v uv); then
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    "${PYTHON:-python3}" -m venv "$tools"
    "$tools/bin/pip" install --quiet uv
    uv=$tools/bin/uv
fi

"$uv" pip compile pyproject.toml --group dev --override requirements/overrides.txt \
    --universal --python-version 3.11 --generate-hashes \
    --no-annotate --no-header --no-emit-index-url --no-emit-find-links --quiet \
    ${UPGRADE:+--upgrade} --output-file requirements/lock.txt >/dev/null
git --no-pager diff --stat -- requirements/lock.txt
