#!/usr/bin/env bash
# ELECTRA against RoBERTa at equal compute: prepare text, pre-train both at several budgets,
# fine-tune on GLUE, write table and plot: see --help.
#
#   GLUE_DIR=glue scripts/reproduce.sh OUT_DIR TEXT... [options]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$PYTHON" "$ROOT/scripts/evidence" "$@"
