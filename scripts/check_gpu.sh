#!/usr/bin/env bash
# Does this machine train ELECTRA right, and how fast? For a GPU machine that is new to you; see
# docs/gpu.md.
#
#   scripts/check_gpu.sh [--minutes 9] [--data DATA_BIN] [--out DIR] [--device cpu]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$PYTHON" "$ROOT/scripts/gpu" "$@"
