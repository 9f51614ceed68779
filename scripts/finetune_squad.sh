#!/usr/bin/env bash
# Fine-tune on questions and answers (SQuAD 1.1 or 2.0) with the paper's settings.
#
#   SIZE=small scripts/finetune_squad.sh SQUAD_BIN SAVE_DIR CHECKPOINT [options]
#
# SQUAD_BIN: from scripts/prepare_squad.sh. CHECKPOINT: of pre-training, or none to start from random
# weights. EPOCHS (default 2), BATCH (default 32), LAYER_DECAY. Run it again to resume.
set -euo pipefail
source "$(dirname "$0")/env.sh"
source "$ROOT/scripts/recipe.sh"

take_arguments "SQUAD_BIN SAVE_DIR CHECKPOINT|none" "$@"
finetune answers
