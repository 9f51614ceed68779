#!/usr/bin/env bash
# Fine-tune on sentences or pairs with fairseq's stock sentence_prediction task and the paper's
# settings, on one device.
#
#   SIZE=small [MODEL=electra|roberta] scripts/finetune.sh TASK_BIN SAVE_DIR CHECKPOINT [options]
#
# TASK_BIN: from scripts/prepare_task.sh. CHECKPOINT: of pre-training, or none to start from random
# weights. EPOCHS (default 3), BATCH (default 32), LAYER_DECAY (default 0.8; large 0.9, tiny 1).
# Run again to resume. RoBERTa gets the same optimizer and settings.
set -euo pipefail
if [ $# -lt 3 ] || { [ ! -f "$1/label/dict.txt" ] && [ ! -f "$1/label/train.label" ]; }; then
    echo "usage: SIZE=small MODEL=electra $0 TASK_BIN SAVE_DIR CHECKPOINT|none [options]" >&2
    [ $# -lt 3 ] || echo "no labels in '$1/label': make it with scripts/prepare_task.sh" >&2
    exit 2
fi
source "$(dirname "$0")/env.sh"
FINETUNE_BATCH=${BATCH:-32}
source "$ROOT/scripts/sizes.sh"
check_count BATCH "$FINETUNE_BATCH"
check_count EPOCHS "${EPOCHS:-3}"
TASK=$1 SAVE_DIR=$2 CHECKPOINT=$3
shift 3

choose_model
# a RoBERTa's pairs are <s> a </s></s> b </s>, as fairseq's own recipe has them
[ "${MODEL:-electra}" = electra ] || ARCH+=(--separator-token 2)
START=()
if [ "$CHECKPOINT" != none ]; then
    [ -f "$CHECKPOINT" ] || { echo "no checkpoint '$CHECKPOINT'" >&2 && exit 2; }
    START=(--finetune-from-model "$CHECKPOINT") # --restore-file would start anew on every call
fi

if [ -f "$TASK/label/train.label" ]; then
    GOAL=(--regression-target --num-classes 1 --best-checkpoint-metric loss)
else
    # the specials of a label dictionary are not written to its file: one line a class
    CLASSES=$(grep -vc '^madeupword' "$TASK/label/dict.txt")
    GOAL=(
        --num-classes "$CLASSES" --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric
    )
fi
EXAMPLES=$("$PYTHON" -m fairseq_electra.text.count_examples "$TASK/input0/train")
UPDATES=$(((EXAMPLES + FINETUNE_BATCH - 1) / FINETUNE_BATCH * ${EPOCHS:-3}))

train "$TASK" --user-dir "$ROOT/fairseq_electra" --save-dir "$SAVE_DIR" \
    --task sentence_prediction --criterion sentence_prediction "${ARCH[@]}" "${START[@]}" \
    "${GOAL[@]}" --init-token 0 --max-positions 512 \
    --optimizer electra_adam --lr "$FINETUNE_LR" --clip-norm 1.0 \
    --layerwise-lr-decay "${LAYER_DECAY:-$FINETUNE_LAYER_DECAY}" \
    --lr-scheduler electra_decay --warmup-updates $((UPDATES / 10)) --max-update "$UPDATES" \
    --batch-size "$FINETUNE_BATCH" --required-batch-size-multiple 1 --num-workers 0 $DEVICE \
    --distributed-world-size 1 \
    --no-epoch-checkpoints --log-interval 20 --log-format simple "$@"
