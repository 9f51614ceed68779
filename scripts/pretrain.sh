#!/usr/bin/env bash
# Pre-train ELECTRA with the paper's settings, on every GPU of this machine or on the CPU.
#
#   SIZE=small scripts/pretrain.sh DATA_BIN SAVE_DIR [fairseq-train options]
#
# SIZE: small (default), base, large, or tiny, which is not in the paper: a model of 2 M weights for one
# CPU core, with the settings that small runs learn by. For tiny alone: BUDGET=minutes (5 of them,
# default), hour or night; RECIPE=paper: the paper's plain settings, for comparison. MLM_UPDATES: updates
# of its first stage, a third by default, at most 4000 (--mlm-updates).
# MICRO_BATCH: sequences a device takes at once (default: what fits a GPU, all on the CPU); the
# paper's batch is reached by --update-freq. A GPU that can computes in bf16.
# Options win over the settings (--max-update 10000, --precision float32, ...). Run again to resume.
set -euo pipefail
source "$(dirname "$0")/env.sh"
source "$ROOT/scripts/sizes.sh"

check_arguments "$@"
fit_batch
DATA=$1 SAVE_DIR=$2
shift 2
choose_mlm_updates "$(read_option --max-update "$UPDATES" "$@")"
train "$DATA" --user-dir "$ROOT/fairseq_electra" --save-dir "$SAVE_DIR" \
    --task electra --criterion electra --arch "electra_$SIZE" \
    --tokens-per-sample "$TOKENS" --mask-prob "$MASK_PROB" --sample-break-mode none \
    --optimizer electra_adam --lr "$LR" --clip-norm 1.0 \
    --lr-scheduler electra_decay --warmup-updates "$WARMUP" --max-update "$UPDATES" \
    --batch-size "$DEVICE_BATCH" --update-freq "$UPDATE_FREQ" --num-workers "$LOADERS" $DEVICE \
    --precision "$PRECISION" --mlm-updates "$MLM_UPDATES" "${ENCODER_START[@]}" "${GENERATOR[@]}" \
    "${ELECTRA_START[@]}" "${SAVING[@]}" "$@"
