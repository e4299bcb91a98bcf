#!/bin/sh
# Puts Bzzz's environment in .venv: finds a Python, and leaves the rest to environment.py beside this file.
# Does nothing, quickly, where the environment already fits. PYTHON=... names the Python to use.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
environment=$root/scripts/environment.py
python=$root/.venv/bin/python

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

# What keeps a Python from being used here; prints nothing where it can be used.
obstacle() {
    "$1" -I -c '
import sys
if sys.version_info < (3, 11):
    print("is Python %d.%d; 3.11 or newer is needed" % sys.version_info[:2])
else:
    try:
        import ensurepip, venv
    except ImportError:
        print("lacks venv or ensurepip; on Debian and Ubuntu: apt-get install python%d.%d-venv" % sys.version_info[:2])
' 2>/dev/null || printf 'does not run\n'
}

if [ -z "${PYTHON:-}" ] && [ -x "$python" ] && "$python" -I "$environment" --check 2>/dev/null; then
    exit 0
fi

if [ -n "${PYTHON:-}" ]; then
    command -v "$PYTHON" >/dev/null 2>&1 || fail "PYTHON=$PYTHON is not there; name a Python 3.11 or newer"
    why=$(obstacle "$PYTHON")
    [ -z "$why" ] || fail "PYTHON=$PYTHON $why"
    exec "$PYTHON" -I "$environment"
fi

reasons=
for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
    command -v "$name" >/dev/null 2>&1 || continue
    why=$(obstacle "$name")
    [ -n "$why" ] || exec "$name" -I "$environment"
    reasons="$reasons; $name $why"
done
[ -n "$reasons" ] || fail "no Python was found; install Python 3.11 or newer, or name one with PYTHON=..."
fail "no Python that can be used was found${reasons} (or name another with PYTHON=...)"
