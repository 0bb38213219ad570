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

# The versions of the MCP SDK for Python need different libraries, so each has its own environment.
install_mcp() {
    folder=$programs/mcp-$1
    sum=$(cat mcp_python/requirements.txt "mcp_python/requirements-$1.txt" | cksum)
    is_up_to_date "$folder/cksum" "$sum" && return
    echo "Installing the MCP SDK for Python, version $1." >&2
    if "$venv/bin/python" -m venv --clear "$folder" &&
        "$folder/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --retries 1 --timeout 20 \
            --require-hashes -r mcp_python/requirements.txt -r "mcp_python/requirements-$1.txt"; then
        echo "$sum" >"$folder/cksum"
    else
        rm -rf "$folder"
        fail "The MCP SDK for Python, version $1," "see the messages of pip"
    fi
}

install_npm_packages() {
    sum=$(cat relying_party/package.json relying_party/package-lock.json | cksum)
    is_up_to_date relying_party/node_modules/cksum "$sum" && return
    if ! command -v npm >/dev/null; then
        fail "The npm packages" "npm is missing"
        return
    fi
    echo "Installing the npm packages." >&2
    if npm ci --no-audit --no-fund --silent --fetch-retries 1 --fetch-timeout 20000 --prefix relying_party; then
        echo "$sum" >relying_party/node_modules/cksum
    else
        rm -rf relying_party/node_modules
        fail "The npm packages" "see the messages of npm"
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

install_oauth2_proxy &
install_npm_packages &
install_dynamodb_local &
install_mcp 1
install_mcp 2
wait
