#!/usr/bin/env bash
# Fine-tune on tagged words (chunks, named entities, parts of speech) with the paper's settings.
#
#   SIZE=small [MODEL=electra|roberta] scripts/finetune_tagging.sh TAG_BIN SAVE_DIR CHECKPOINT [options]
#
# TAG_BIN: from scripts/prepare_tagging.sh. CHECKPOINT: of pre-training, or none to start from random
# weights. EPOCHS (default 3), BATCH (default 32), LAYER_DECAY (default 0.8; large 0.9; tiny 1,
# with BUDGET=hour and night 0.8).
# Run it again to resume. RoBERTa gets the same head, optimizer and settings.
set -euo pipefail
source "$(dirname "$0")/env.sh"
source "$ROOT/scripts/recipe.sh"

take_arguments "TAG_BIN SAVE_DIR CHECKPOINT|none" "$@"
finetune tags
