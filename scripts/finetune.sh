#!/usr/bin/env bash
# Fine-tune on sentences or pairs with fairseq's stock sentence_prediction task and the paper's
# settings, on one device.
#
#   SIZE=small [MODEL=electra|roberta] scripts/finetune.sh TASK_BIN SAVE_DIR CHECKPOINT [options]
#
# TASK_BIN: from scripts/prepare_task.sh. CHECKPOINT: of pre-training, or none to start from random
# weights. EPOCHS (default 3), BATCH (default 32), LAYER_DECAY (default 0.8; large 0.9; tiny 1,
# with BUDGET=hour and night 0.8).
# Run again to resume. RoBERTa gets the same optimizer and settings.
set -euo pipefail
source "$(dirname "$0")/env.sh"
source "$ROOT/scripts/recipe.sh"

take_arguments "TASK_BIN SAVE_DIR CHECKPOINT|none" "$@"
finetune sentences
