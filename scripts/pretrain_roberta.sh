#!/usr/bin/env bash
# Pre-train fairseq's stock RoBERTa for as many FLOPs as scripts/pretrain.sh gives ELECTRA.
#
#   SIZE=small scripts/pretrain_roberta.sh DATA_BIN SAVE_DIR [fairseq-train options]
#
# The encoder is the discriminator's: same layers, hidden size, FFN and heads, same batch, learning
# rate and data.
# ELECTRA_UPDATES: updates of ELECTRA to match (default: the paper's), of which MLM_UPDATES are its first
# stage (default: as in pretrain.sh). Sizes among the options (--encoder-layers 2) are ELECTRA's too; what
# else changes its cost stands in ELECTRA_OPTIONS ("--generator-size 0.5").
set -euo pipefail
source "$(dirname "$0")/env.sh"
source "$ROOT/scripts/sizes.sh"

check_arguments "$@"
fit_batch
DATA=$1 SAVE_DIR=$2
shift 2
match_electra roberta "$@"
train "$DATA" --user-dir "$ROOT/fairseq_electra" --save-dir "$SAVE_DIR" \
    --task masked_lm --criterion masked_lm --arch roberta \
    --encoder-layers "$LAYERS" --encoder-embed-dim "$HIDDEN" --encoder-ffn-embed-dim "$FFN" \
    --encoder-attention-heads "$HEADS" --max-positions 512 \
    --tokens-per-sample "$TOKENS" --mask-prob "$MASK_PROB" --sample-break-mode none \
    --optimizer adam --adam-betas '(0.9, 0.999)' --adam-eps 1e-6 --weight-decay 0.01 \
    --lr "$LR" --clip-norm 1.0 \
    --lr-scheduler polynomial_decay --warmup-updates "$WARMUP" \
    --max-update "$UPDATES" --total-num-update "$UPDATES" \
    --batch-size "$DEVICE_BATCH" --update-freq "$UPDATE_FREQ" --num-workers "$LOADERS" $DEVICE \
    --required-batch-size-multiple 1 \
    "${SAVING[@]}" "$@"
