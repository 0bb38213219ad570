#!/bin/sh
# Installs the programs of other projects that the tests marked `programs` use, with pinned versions: npm packages
# beside their programs, the others in .venv/programs. What cannot be installed, because its tool is missing or its
# registry does not answer, is reported, and its tests are skipped.
set -u
cd "$(dirname "$0")"

venv=$PWD/../../.venv
programs=$venv/programs
oauth2_proxy=v7.15.6

# Return whether $1 says that a folder has the content of checksum $2.
is_up_to_date() {
    [ "$(cat "$1" 2>/dev/null)" = "$2" ]
}

fail() {
    echo "$1 could not be installed: $2. The tests with it are skipped." >&2
}

# Programs in Python need different libraries, so each has its own environment: $1, from the requirements in $3 and after.
install_python() {
    folder=$programs/$1
    name=$2
    shift 2
    sum=$(cat "$@" | cksum)
    is_up_to_date "$folder/cksum" "$sum" && return
    echo "Installing $name." >&2
    options=
    for file in "$@"; do
        options="$options -r $file"
    done
    # shellcheck disable=SC2086 # the names have no spaces
    if "$venv/bin/python" -m venv --clear "$folder" &&
        "$folder/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --retries 1 --timeout 20 \
            --require-hashes $options; then
        echo "$sum" >"$folder/cksum"
    else
        rm -rf "$folder"
        fail "$name" "see the messages of pip"
    fi
}

# $1: the folder of a package.json
install_npm_packages() {
    sum=$(cat "$1/package.json" "$1/package-lock.json" | cksum)
    is_up_to_date "$1/node_modules/cksum" "$sum" && return
    if ! command -v npm >/dev/null; then
        fail "The npm packages of $1" "npm is missing"
        return
    fi
    echo "Installing the npm packages of $1." >&2
    if npm ci --no-audit --no-fund --silent --fetch-retries 1 --fetch-timeout 20000 --prefix "$1"; then
        echo "$sum" >"$1/node_modules/cksum"
    else
        rm -rf "$1/node_modules"
        fail "The npm packages of $1" "see the messages of npm"
    fi
}

# AWS's own emulator of DynamoDB, in Java.
install_dynamodb_local() {
    folder=$programs/dynamodb-local
    sum=$(cksum <dynamodb_local.xml)
    is_up_to_date "$folder/cksum" "$sum" && return
    if ! command -v mvn >/dev/null; then
        fail "DynamoDB Local" "Maven is missing"
        return
    fi
    echo "Installing DynamoDB Local." >&2
    rm -rf "$folder"
    if mvn --quiet --batch-mode --file dynamodb_local.xml dependency:copy-dependencies \
        -DoutputDirectory="$folder" >&2; then
        echo "$sum" >"$folder/cksum"
    else
        rm -rf "$folder"
        fail "DynamoDB Local" "see the messages of Maven"
    fi
}

# Go keeps the modules and what it has compiled in its own folders outside the repository.
install_oauth2_proxy() {
    is_up_to_date "$programs/bin/cksum" "$oauth2_proxy" && return
    if ! command -v go >/dev/null; then
        fail "oauth2-proxy" "Go is missing"
        return
    fi
    echo "Building oauth2-proxy $oauth2_proxy. This takes a few minutes, once." >&2
    mkdir -p "$programs/bin"
    if GOBIN=$programs/bin go install "github.com/oauth2-proxy/oauth2-proxy/v7@$oauth2_proxy" \
        >"$programs/bin/log" 2>&1; then
        echo "$oauth2_proxy" >"$programs/bin/cksum"
    else
        tail -n 5 "$programs/bin/log" >&2
        rm -f "$programs/bin/oauth2-proxy"
        fail "oauth2-proxy" "see the messages of Go"
    fi
}

# A resource server, from the packages of Debian. Only root can install them; nothing is started.
install_apache() {
    [ -f /usr/lib/apache2/modules/mod_oauth2.so ] && return
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        fail "Apache with mod_oauth2" "run as root: apt-get install --no-install-recommends apache2 libapache2-mod-oauth2"
        return
    fi
    echo "Installing Apache with mod_oauth2." >&2
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends \
        apache2 libapache2-mod-oauth2 >&2 || fail "Apache with mod_oauth2" "see the messages of apt-get"
}

install_oauth2_proxy &
install_npm_packages relying_party &
install_npm_packages mcp_conformance &
install_dynamodb_local &
for version in 1 2; do
    install_python "mcp-$version" "MCP SDK for Python $version" \
        mcp_python/requirements.txt "mcp_python/requirements-$version.txt"
done
install_apache
install_python idpyoidc idpyoidc idpyoidc_client/requirements.txt
wait
