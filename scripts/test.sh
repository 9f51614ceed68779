#!/usr/bin/env bash
# Set up, check format and lint, run all tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
source scripts/env.sh
"$PYTHON" -m ruff format --check .
"$PYTHON" -m ruff check .
# one process a core, each with one thread: tiny tensors do not gain from more; a file's tests in one
# process, since they share what was trained for them
OMP_NUM_THREADS=1 "$PYTHON" -m pytest --dist loadfile \
    -n "$("$PYTHON" -c "import os; print(len(os.sched_getaffinity(0)))")" "$@"
