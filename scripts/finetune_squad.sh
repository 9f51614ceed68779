#!/usr/bin/env bash
# Fine-tune on questions and answers (SQuAD 1.1 or 2.0) with the paper's settings.
#
#   SIZE=small scripts/finetune_squad.sh SQUAD_BIN SAVE_DIR CHECKPOINT [options]
#
# SQUAD_BIN: from scripts/prepare_squad.sh. CHECKPOINT: of pre-training, or none to start from random
# weights. EPOCHS (default 2), BATCH (default 32), LAYER_DECAY. Run it again to resume.
set -euo pipefail
if [ $# -lt 3 ] || [ ! -f "$1/train.json" ]; then
    echo "usage: SIZE=small $0 SQUAD_BIN SAVE_DIR CHECKPOINT|none [options]" >&2
    [ $# -lt 3 ] || echo "no train.json in '$1': make it with scripts/prepare_squad.sh" >&2
    exit 2
fi
source "$(dirname "$0")/env.sh"
FINETUNE_BATCH=${BATCH:-32}
source "$ROOT/scripts/sizes.sh"
SQUAD=$1 SAVE_DIR=$2 CHECKPOINT=$3
shift 3

START=()
if [ "$CHECKPOINT" != none ]; then
    [ -f "$CHECKPOINT" ] || { echo "no checkpoint '$CHECKPOINT'" >&2 && exit 2; }
    START=(--finetune-from-model "$CHECKPOINT") # unless SAVE_DIR has a checkpoint to go on from
fi
DECAY=${LAYER_DECAY:-${FINETUNE_LAYER_DECAY:-}}
WINDOWS=$("$PYTHON" -m fairseq_electra.text.count_windows "$SQUAD" "$@")
UPDATES=$(((WINDOWS + FINETUNE_BATCH - 1) / FINETUNE_BATCH * ${EPOCHS:-2}))

train "$SQUAD" --user-dir "$ROOT/fairseq_electra" --save-dir "$SAVE_DIR" \
    --task electra_answers --criterion electra_answers --arch "electra_$SIZE" "${START[@]}" \
    --optimizer electra_adam --lr "$FINETUNE_LR" --clip-norm 1.0 \
    ${DECAY:+--layerwise-lr-decay "$DECAY"} \
    --lr-scheduler electra_decay --warmup-updates $((UPDATES / 10)) --max-update "$UPDATES" \
    --batch-size "$FINETUNE_BATCH" --required-batch-size-multiple 1 --num-workers 0 $DEVICE \
    --distributed-world-size 1 \
    --no-epoch-checkpoints --log-interval 20 --log-format simple "$@"
