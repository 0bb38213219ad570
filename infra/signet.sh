#!/bin/sh
# The command `signet`: works from any directory, also through a symbolic link. infra/venv.sh copies it to .venv/bin/signet.
script=$(readlink -f "$0" 2>/dev/null || echo "$0")
checkout=$(CDPATH='' cd -- "$(dirname "$script")/../.." && pwd) || exit
PYTHONPATH=$checkout exec "$checkout/.venv/bin/python" -P -m infra "$@"
