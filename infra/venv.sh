#!/bin/sh
# Makes .venv as requirements.txt and tests/requirements.txt want it; does nothing while it is. PYTHON names the Python
# to use. The stamp is written last, so that what was interrupted halfway is made again.
set -eu
cd "$(dirname "$0")/.."

wanted=$(cat requirements.txt tests/requirements.txt | cksum)
stamp=.venv/requirements.cksum
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c "" 2>/dev/null; then
    exit 0
fi

fail() {
    echo "$*" >&2
    exit 1
}

found="" # what can be used
bare=""  # what could be, were its venv complete
old=""   # what cannot
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        old="${old:-$candidate is $version}"
    elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
        bare="${bare:-$version}"
    else
        found=$candidate
        break
    fi
done
if [ -z "$found" ]; then
    [ -z "$bare" ] || fail "Python $bare has no venv here. On Debian and Ubuntu: sudo apt install python$bare-venv"
    fail "Signet needs Python 3.11 or newer (${old:-none found}). If you have one: make run PYTHON=/path/to/python3.11"
fi

echo "Making .venv with Python $version; this takes a minute, once." >&2
rm -f "$stamp"
"$found" -m venv --clear .venv
# The pip that comes with Python is good enough, and chalice wants none that is too new.
.venv/bin/python -m pip install -q --no-input --disable-pip-version-check \
    -r requirements.txt -r tests/requirements.txt || fail "pip could not install the requirements; the next make tries again."
echo "$wanted" >"$stamp"
