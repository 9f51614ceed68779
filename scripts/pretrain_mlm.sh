#!/usr/bin/env bash
# Pre-train RoBERTa on ELECTRA's encoder (electra_mlm) for as many FLOPs as scripts/pretrain.sh gives
# ELECTRA.
#
#   SIZE=small scripts/pretrain_mlm.sh DATA_BIN SAVE_DIR [fairseq-train options]
#
# Layers, kernels, embeddings, precision, optimizer and initial weights are the discriminator's; only
# what it learns is RoBERTa's.
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
match_electra mlm "$@"
train "$DATA" --user-dir "$ROOT/fairseq_electra" --save-dir "$SAVE_DIR" \
    --task masked_lm --criterion masked_lm --arch "electra_mlm_$SIZE" \
    --tokens-per-sample "$TOKENS" --mask-prob "$MASK_PROB" --sample-break-mode none \
    --optimizer electra_adam --lr "$LR" --clip-norm 1.0 \
    --lr-scheduler electra_decay --warmup-updates "$WARMUP" --max-update "$UPDATES" \
    --batch-size "$DEVICE_BATCH" --update-freq "$UPDATE_FREQ" --num-workers "$LOADERS" $DEVICE \
    --required-batch-size-multiple 1 --precision "$PRECISION" "${ENCODER_START[@]}" \
    "${SAVING[@]}" "$@"
