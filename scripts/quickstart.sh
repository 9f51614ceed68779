#!/usr/bin/env bash
# From nothing to a comparison in under ten minutes on two CPU cores: corpus, tokenizer, data,
# ELECTRA and fairseq's RoBERTa pre-trained for the same FLOPs, both and an untrained encoder
# fine-tuned on a labelled task, one table and one plot.
#
#   scripts/quickstart.sh [OUT_DIR]        (default: runs/quickstart; what is there is not redone)
#
# UPDATES: of ELECTRA's pre-training (default 1000). EPOCHS: of each fine-tuning (default 1).
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-runs/quickstart}
UPDATES=${UPDATES:-1000}
EPOCHS=${EPOCHS:-1}

trap 'kill $(jobs -p) 2> /dev/null || true' EXIT

say() { printf '\n[%3d s] %s\n' $SECONDS "$*"; }

say "setting up"
scripts/setup.sh
source scripts/env.sh
mkdir -p "$OUT"

# Two runs at a time, each on half of the cores: faster than one after the other on all of them.
CORES=$("$PYTHON" -c 'import os; print(len(os.sched_getaffinity(0)))')
export OMP_NUM_THREADS=$((CORES > 1 ? CORES / 2 : 1))
export EPOCHS SIZE=tiny CUDA_VISIBLE_DEVICES=

run_logged() {  # name, metrics to show, save-dir, command...
    local name=$1 wanted=$2 dir=$3
    shift 3
    [ -f "$dir/done" ] && echo "$name: done before" && return
    mkdir -p "$dir"
    if ! "$@" 2>&1 | "$PYTHON" scripts/show_progress.py "$name" $wanted; then
        echo "$name failed; the end of $dir/train.log:" >&2
        tail -n 15 "$dir/train.log" >&2
        return 1
    fi
    touch "$dir/done"
}

if [ ! -d "$OUT/data-bin" ]; then
    say "making a corpus of the documentation of Python and of the installed libraries"
    [ -d "$OUT/corpus" ] || "$PYTHON" scripts/make_corpus.py "$OUT/corpus"
    say "training a tokenizer, encoding, fairseq-preprocess"
    scripts/prepare_data.sh --vocab-size 3000 --valid "$OUT/corpus/valid.txt" \
        --test "$OUT/corpus/test.txt" "$OUT/data-bin" "$OUT/corpus/train.txt"
fi
if [ ! -d "$OUT/task-bin" ]; then
    say "preparing the labelled task: which library does this text come from?"
    scripts/prepare_task.sh --max-tokens 62 "$OUT/task-bin" "$OUT/data-bin" "$OUT/corpus/library"
fi

say "pre-training ELECTRA ($UPDATES updates) and RoBERTa (as many FLOPs), side by side"
OFTEN=(--log-interval 50 --validate-interval-updates 250 --no-save-optimizer-state)
run_logged ELECTRA "gen_loss disc_loss disc_auc" "$OUT/electra" \
    scripts/pretrain.sh "$OUT/data-bin" "$OUT/electra" --max-update "$UPDATES" \
    --warmup-updates $((UPDATES / 10)) "${OFTEN[@]}" &
ELECTRA_UPDATES=$UPDATES run_logged RoBERTa "loss ppl" "$OUT/roberta" \
    scripts/pretrain_roberta.sh "$OUT/data-bin" "$OUT/roberta" \
    --warmup-updates $((UPDATES / 10)) "${OFTEN[@]}" &
wait -n
wait -n

finetune() {  # name, model, checkpoint
    MODEL=$2 run_logged "$1 fine-tuned" "loss accuracy" "$OUT/finetune-$1" \
        scripts/finetune.sh "$OUT/task-bin" "$OUT/finetune-$1" "$3" --no-save
}

say "fine-tuning both, and an encoder that was never pre-trained"
finetune ELECTRA electra "$OUT/electra/checkpoint_last.pt" &
finetune RoBERTa roberta "$OUT/roberta/checkpoint_last.pt" &
wait -n
wait -n
OMP_NUM_THREADS=$CORES finetune untrained electra none

say "comparing"
"$PYTHON" scripts/compare_runs.py --out "$OUT" "ELECTRA=$OUT/electra+$OUT/finetune-ELECTRA" \
    "RoBERTa=$OUT/roberta+$OUT/finetune-RoBERTa" "untrained=$OUT/finetune-untrained"
say "done: table.md, table.json and curves.png are in $OUT"
