#!/bin/sh
# Creates .venv from requirements.txt and tests/requirements.txt, unless it is up to date, with the command .venv/bin/signet.
# PYTHON names the Python to use.
# The checksum is written last, so that the next run repeats an interrupted installation.
set -eu
cd "$(dirname "$0")/.."

checksum=$(cat requirements.txt tests/requirements.txt | cksum)
stamp=.venv/requirements.cksum

# Install the command, unless it is up to date. A file that is being run must be replaced, not written over.
install_signet() {
    if ! cmp -s infra/signet.sh .venv/bin/signet 2>/dev/null || [ ! -x .venv/bin/signet ]; then
        cp infra/signet.sh .venv/bin/signet.new
        chmod +x .venv/bin/signet.new
        mv -f .venv/bin/signet.new .venv/bin/signet
    fi
}

if [ "$(cat "$stamp" 2>/dev/null)" = "$checksum" ] && .venv/bin/python -c "" 2>/dev/null; then
    install_signet
    exit 0
fi

fail() {
    echo "$*" >&2
    exit 1
}

pip() {
    .venv/bin/python -m pip "$@" --no-input --disable-pip-version-check
}

python=""     # the first suitable candidate
incomplete="" # the version of a candidate without venv
old=""        # a candidate that is too old
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        old="${old:-$candidate is $version}"
    elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
        incomplete="${incomplete:-$version}"
    else
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    [ -z "$incomplete" ] ||
        fail "Python $incomplete lacks the module venv. On Debian and Ubuntu: sudo apt install python$incomplete-venv"
    fail "Signet needs Python 3.11 or newer (${old:-none found}). To choose one: make run PYTHON=/path/to/python3.11"
fi

echo "Creating .venv with Python $version. This takes a minute, once." >&2
rm -f "$stamp"
"$python" -m venv --clear .venv
# Both files pin all dependencies with hashes, also pip, which `signet deploy` uses.
pip install -q --require-hashes -r requirements.txt -r tests/requirements.txt ||
    fail "pip could not install the requirements. Run make again to retry."
install_signet
echo "$checksum" >"$stamp"
