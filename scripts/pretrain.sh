#!/usr/bin/env bash
# Pre-train ELECTRA with the paper's settings, on every GPU of this machine or on the CPU.
#
#   SIZE=small scripts/pretrain.sh DATA_BIN SAVE_DIR [fairseq-train options]
#
# SIZE: small (default), base, large, or tiny, which is not in the paper: a model of 2 M weights for one
# CPU core, with the settings that small runs learn by. For tiny alone: BUDGET=minutes (5 of them,
# default), hour or night; RECIPE=paper: the paper's plain settings, for comparison. MLM_UPDATES: updates
# of its first stage, a third by default, at most 2000 (--mlm-updates).
# MICRO_BATCH: sequences a device takes at once (default: what fits a GPU, all on the CPU); the
# paper's batch is reached by --update-freq. A GPU computes in 16 bits by autocast.
# Options win over the settings (--max-update 10000, --precision float32, ...). Run again to resume.
# `fairseq-electra recipe` prints the command that this runs.
set -euo pipefail
source "$(dirname "$0")/env.sh"
source "$ROOT/scripts/recipe.sh"

take_arguments "DATA_BIN SAVE_DIR" "$@"
OPTIONS=(${MLM_UPDATES:+--mlm-updates "$MLM_UPDATES"} "${OPTIONS[@]}")
pretrain electra
