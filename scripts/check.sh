#!/usr/bin/env bash
# Every check of the project, one section after another, each with the seconds it took. All of them run, whatever
# fails before, so that one run tells everything; the status is 0 only where all passed. The tests come last, so
# the last line is pytest's own. `check.sh static` runs the checks that run no test; what follows is for pytest.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

bin=.venv/bin
[ -x "$bin/python" ] || { echo "check: there is no environment yet; run: make setup" >&2; exit 1; }
failed=()

# Tests get a folder of their own, removed here: pytest's shared one is cleared by every run on this machine, and
# its way of clearing fails on folders as deep as some tests make them.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/bzzz-check.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT

section() {
    local name=$1 started=$EPOCHREALTIME output status
    shift
    output=$("$@" 2>&1)
    status=$?
    local ended=$EPOCHREALTIME
    local ms=$(((${ended/[.,]/} - ${started/[.,]/}) / 1000))
    if [ $status -eq 0 ]; then
        printf '%-8s ok      %6d ms\n' "$name" "$ms"
    else
        printf '%-8s FAILED  %6d ms: %s\n%s\n' "$name" "$ms" "$*" "$output"
        failed+=("$name")
    fi
}

ended() {
    if [ ${#failed[@]} -gt 0 ]; then
        echo "check: failed: ${failed[*]}" >&2
        exit 1
    fi
    exit 0
}

section format "$bin/ruff" format --check .
section lint "$bin/ruff" check .
section types "$bin/mypy"
section imports "$bin/lint-imports" --no-logo
[ "${1:-}" != static ] || ended

# Tests that measure time or use up the machine run alone, and first; the rest shares the cores, with two workers more
# than the two cores of continuous integration: those that run real nodes wait for much of their time.
# pytest's 5 means that it found no test, which is right for a selection that matches none of them.
"$bin/python" -m pytest -q -m serial --basetemp "$scratch/serial" "$@"
status=$?
[ $status -eq 0 ] || [ $status -eq 5 ] || failed+=("serial tests")
"$bin/python" -m pytest -q -m "not serial" -n 4 --dist worksteal --basetemp "$scratch/shared" "$@"
status=$?
[ $status -eq 0 ] || { [ $status -eq 5 ] && [ $# -gt 0 ]; } || failed+=("tests")
ended
