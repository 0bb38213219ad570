#!/bin/sh
# Creates .venv, unless it is up to date, with the command .venv/bin/signet.
# `venv.sh` installs what running, operating and deploying need; `venv.sh test` also what tests and checks need.
# PYTHON names the Python to use: .venv is created again when it has another one.
# The checksums are written last, so that the next run repeats an interrupted installation.
set -eu
cd "$(dirname "$0")/.."

level=${1:-run}
PYTHON=${PYTHON:-}
candidates="python3 python3.14 python3.13 python3.12 python3.11"
run_sum=$(cat requirements.txt infra/requirements.txt | cksum)
test_sum=""
[ "$level" = run ] || test_sum=$(cat requirements.txt infra/requirements.txt tests/requirements.txt | cksum)

fail() {
    echo "$*" >&2
    exit 1
}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# The version and the folder of an installation, the same in an environment that was created with it.
identity_of() {
    "$1" -c 'import os, sys; print("%d.%d.%d in" % sys.version_info[:3], os.path.realpath(sys.base_prefix))' 2>/dev/null
}

# List the candidates that run, with their versions.
found() {
    list=""
    for candidate in $candidates; do
        if version=$(version_of "$candidate"); then
            list="$list${list:+, }$candidate ($version)"
        fi
    done
    echo "${list:-none}"
}

# Set `python` to $PYTHON, or to the first suitable candidate.
choose_python() {
    python="" incomplete="" old=""
    if [ -n "$PYTHON" ]; then
        set -- "$PYTHON"
        version_of "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON does not run. Found: $(found)."
    else
        # shellcheck disable=SC2086  # a list
        set -- $candidates
    fi
    for candidate; do
        version=$(version_of "$candidate") || continue
        if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            old="${old:-$candidate is $version}"
        elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            incomplete="${incomplete:-$version}"
        else
            python=$candidate
            return
        fi
    done
    [ -z "$incomplete" ] ||
        fail "Python $incomplete lacks the module venv. On Debian and Ubuntu: sudo apt install python$incomplete-venv"
    fail "Signet needs Python 3.11 or newer (${old:-none found}). Found: $(found)." \
        "To choose one: make run PYTHON=/path/to/python3.11"
}

# Install the command, unless it is up to date. A file that is being run must be replaced, not written over.
install_signet() {
    if ! cmp -s infra/signet.sh .venv/bin/signet 2>/dev/null || [ ! -x .venv/bin/signet ]; then
        cp infra/signet.sh .venv/bin/signet.new
        chmod +x .venv/bin/signet.new
        mv -f .venv/bin/signet.new .venv/bin/signet
    fi
}

# Install $1 libraries, by the requirements files that follow, and show the progress.
# The files pin all dependencies with hashes, also pip, which `signet deploy` uses.
install() {
    total=$1
    shift
    for file; do
        shift
        set -- "$@" -r "$file"
    done
    rm -f .venv/failed
    { .venv/bin/python -m pip install --no-input --disable-pip-version-check --progress-bar off --require-hashes "$@" ||
        : >.venv/failed; } | show_progress "$total"
    [ ! -e .venv/failed ] || fail "pip could not install the requirements. Run make again to retry."
}

# Turn pip's lines into one that changes on a terminal, else into a line for every 20 libraries.
show_progress() {
    number=0
    while read -r verb name _; do
        case $verb in
            Collecting) number=$((number + 1)) text="$number of $1: ${name%%==*}" ;;
            Installing) text="$number of $1, unpacking" ;;
            *) continue ;;
        esac
        if [ -t 2 ]; then
            printf '\r\033[K  %s' "$text" >&2
        elif [ $((number % 20)) -eq 0 ] || [ "$verb" = Installing ]; then
            echo "  $text" >&2
        fi
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
}

count() {
    cat "$@" | grep -c '^[A-Za-z0-9]'
}

again=""
if [ -n "$PYTHON" ]; then
    choose_python
    if current=$(identity_of .venv/bin/python) && [ "$current" != "$(identity_of "$python")" ]; then
        echo ".venv has Python $current. It is created again." >&2
        again=yes
    fi
fi

up_to_date=no
if [ -z "$again" ] && [ "$(cat .venv/run.cksum 2>/dev/null)" = "$run_sum" ] && .venv/bin/python -c "" 2>/dev/null; then
    if [ "$level" = run ] || [ "$(cat .venv/test.cksum 2>/dev/null)" = "$test_sum" ]; then
        install_signet
        exit 0
    fi
    [ -e .venv/test.cksum ] || up_to_date=run
fi

if [ "$up_to_date" = no ]; then
    # `--clear` would empty the folder of another checkout.
    [ ! -L .venv ] || fail ".venv is a link to $(readlink .venv), and is not up to date. Remove the link."
    choose_python
    echo "Creating .venv with Python $version. This takes a minute, once." >&2
    rm -f .venv/run.cksum .venv/test.cksum
    "$python" -m venv --clear .venv
    install "$(count requirements.txt infra/requirements.txt)" requirements.txt infra/requirements.txt
    install_signet
    echo "$run_sum" >.venv/run.cksum
fi
if [ "$level" = test ]; then
    echo "Installing what the tests need into .venv, once." >&2
    install "$(count tests/requirements.txt)" requirements.txt infra/requirements.txt tests/requirements.txt
    echo "$test_sum" >.venv/test.cksum
fi
