#!/usr/bin/env bash
# Nodes beside js-libp2p and go-libp2p programs (tests/interop). What is not there, or cannot be downloaded, is said and
# left out; the status is 1 only where a program that could be run did not get on with ours. Downloads and builds stay
# in build/interop. Where the system lets it, all runs in a network of its own, so that no node nearby is met.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

readonly download_s_max=${INTEROP_DOWNLOAD_S_MAX:-150} run_s_max=${INTEROP_RUN_S_MAX:-90}
root=$PWD
build=$root/build/interop
python=$root/.venv/bin/python
[ -x "$python" ] || { echo "interop: there is no environment yet; run: make setup" >&2; exit 1; }
mkdir -p "$build"
peers=()

# Runs a step of the preparation; what it printed is kept, and its last line shown where it fails.
prepare() {
    local name=$1
    shift
    timeout "$download_s_max" "$@" >"$build/$name.log" 2>&1
    case $? in
        0) return 0 ;;
        124) echo "interop: $name was not tried: its download and build took longer than $download_s_max s" ;;
        *) echo "interop: $name was not tried: it could not be downloaded or built ($(tail -n 1 "$build/$name.log"))" ;;
    esac
    return 1
}

prepare_js() {
    mkdir -p "$build/js" && cp tests/interop/js/{package.json,package-lock.json,.npmrc,peer.mjs} "$build/js/" || return 1
    cd "$build/js" || return 1
    # Nothing is done where what is locked is installed already.
    cmp -s package-lock.json node_modules/.locked && return 0
    npm ci --ignore-scripts --cache "$build/npm-cache" && cp package-lock.json node_modules/.locked
}

prepare_go() {
    cd tests/interop/go || return 1
    export GOPATH=$build/go GOCACHE=$build/go-cache GOTOOLCHAIN=local GOFLAGS="-buildvcs=false -mod=readonly -modcacherw"
    # Unoptimised: building is most of what this costs, and a peer that says little need not be quick.
    go build -gcflags="all=-N -l" -o "$build/go-peer" .
}
export -f prepare_js prepare_go
export build

if command -v node >/dev/null && command -v npm >/dev/null; then
    prepare js-libp2p bash -c prepare_js && peers+=("\"js\": [\"node\", \"$build/js/peer.mjs\"]")
else
    echo "interop: Node is not here, so js-libp2p was not tried"
fi
if command -v go >/dev/null; then
    prepare go-libp2p bash -c prepare_go && peers+=("\"go\": [\"$build/go-peer\"]")
else
    echo "interop: Go is not here, so go-libp2p was not tried"
fi
if [ ${#peers[@]} -eq 0 ]; then
    echo "interop: nothing could be tried"
    exit 0
fi
BZZZ_INTEROP_PEERS="{$(IFS=,; echo "${peers[*]}")}"
export BZZZ_INTEROP_PEERS

# A network with loopback and one interface that multicast goes out on, and comes back from.
own_network='ip link set lo up && ip link add mesh type veth peer name other && ip address add 192.0.2.1/24 dev mesh &&
    ip link set other up && ip link set mesh up && ip route add 224.0.0.0/4 dev mesh'
within=(unshare --user --map-root-user --net bash -c "$own_network && exec \"\$@\"" own-network)
if ! "${within[@]}" true 2>"$build/network.log"; then
    echo "interop: no network of its own can be made here; nodes nearby may be met"
    within=()
fi
scratch=$(mktemp -d "${TMPDIR:-/tmp}/bzzz-interop.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
timeout "$run_s_max" "${within[@]}" "$python" -m pytest -q --basetemp "$scratch/tests" tests/interop/check_libp2p.py
