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
source "$ROOT/scripts/recipe.sh"

take_arguments "DATA_BIN SAVE_DIR" "$@"
pretrain_matched roberta
