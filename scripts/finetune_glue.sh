#!/usr/bin/env bash
# Fine-tune a checkpoint on one of GLUE's tasks, or all, with several seeds; a table of the dev
# sets' metrics, and files for the leaderboard: see --help.
#
#   SIZE=small GLUE_DIR=glue scripts/finetune_glue.sh TASK|all CHECKPOINT|none OUT_DIR [options]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$PYTHON" "$ROOT/scripts/glue" "$@"
