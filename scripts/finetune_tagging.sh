#!/usr/bin/env bash
# Fine-tune on tagged words (chunks, named entities, parts of speech) with the paper's settings.
#
#   SIZE=small [MODEL=electra|roberta] scripts/finetune_tagging.sh TAG_BIN SAVE_DIR CHECKPOINT [options]
#
# TAG_BIN: from scripts/prepare_tagging.sh. CHECKPOINT: of pre-training, or none to start from random
# weights. EPOCHS (default 3), BATCH (default 32), LAYER_DECAY (default 0.8; large 0.9, tiny 1).
# Run it again to resume. RoBERTa gets the same head, optimizer and settings.
set -euo pipefail
if [ $# -lt 3 ] || [ ! -f "$1/label/dict.txt" ] || [ ! -f "$1/train.conll" ]; then
    echo "usage: SIZE=small MODEL=electra $0 TAG_BIN SAVE_DIR CHECKPOINT|none [options]" >&2
    [ $# -lt 3 ] || echo "no train.conll in '$1': make it with scripts/prepare_tagging.sh" >&2
    exit 2
fi
source "$(dirname "$0")/env.sh"
FINETUNE_BATCH=${BATCH:-32}
source "$ROOT/scripts/sizes.sh"
check_count BATCH "$FINETUNE_BATCH"
check_count EPOCHS "${EPOCHS:-3}"
TAGS=$1 SAVE_DIR=$2 CHECKPOINT=$3
shift 3

choose_model
START=()
if [ "$CHECKPOINT" != none ]; then
    [ -f "$CHECKPOINT" ] || { echo "no checkpoint '$CHECKPOINT'" >&2 && exit 2; }
    START=(--finetune-from-model "$CHECKPOINT") # unless SAVE_DIR has a checkpoint to go on from
fi
DECAY=${LAYER_DECAY:-${FINETUNE_LAYER_DECAY:-}}
# Tags that mark no entities have no F1 (criterions/entity_counts.py).
BEST=f1
! grep -qvE '^(O|[BIES]-.+) 1$' "$TAGS/label/dict.txt" || BEST=accuracy
# Sentences are paragraphs to awk. One that is cut into two examples ends the last epoch an example
# early.
SENTENCES=$(awk 'BEGIN { RS = "" } END { print NR }' "$TAGS/train.conll")
UPDATES=$(((SENTENCES + FINETUNE_BATCH - 1) / FINETUNE_BATCH * ${EPOCHS:-3}))

train "$TAGS" --user-dir "$ROOT/fairseq_electra" --save-dir "$SAVE_DIR" \
    --task electra_tagging --criterion electra_tagging "${ARCH[@]}" "${START[@]}" \
    --optimizer electra_adam --lr "$FINETUNE_LR" --clip-norm 1.0 \
    ${DECAY:+--layerwise-lr-decay "$DECAY"} \
    --lr-scheduler electra_decay --warmup-updates $((UPDATES / 10)) --max-update "$UPDATES" \
    --batch-size "$FINETUNE_BATCH" --required-batch-size-multiple 1 --num-workers 0 $DEVICE \
    --distributed-world-size 1 \
    --best-checkpoint-metric "$BEST" --maximize-best-checkpoint-metric \
    --no-epoch-checkpoints --log-interval 20 --log-format simple "$@"
