#!/usr/bin/env bash
# From nothing to a comparison in about ten minutes on two CPU cores: corpus, tokenizer, data, ELECTRA
# and RoBERTa (on the same encoder, with the same start) pre-trained for the same FLOPs; both, an
# untrained encoder and the packaged model fine-tuned on two tasks; one table, one plot, and a page of
# replaced words.
#
#   scripts/quickstart.sh [OUT_DIR]        (default: runs/quickstart; what is there is not redone)
#
# UPDATES: of ELECTRA's pre-training (default 1500). EPOCHS: of each fine-tuning (default 10 on swapped
# words, 3 on libraries). SEED: of all runs (default 1).
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-runs/quickstart}
UPDATES=${UPDATES:-1500}
SEED=${SEED:-1}

trap 'kill $(jobs -p) 2> /dev/null || true' EXIT

say() { printf '\n[%3d s] %s\n' $SECONDS "$*"; }

say "setting up"
scripts/setup.sh
source scripts/env.sh
mkdir -p "$OUT"

# Two jobs at a time, each on half of the cores: faster than one after the other on all of them.
CORES=$("$PYTHON" -c 'import os; print(len(os.sched_getaffinity(0)))')
export OMP_NUM_THREADS=$((CORES > 1 ? CORES / 2 : 1))
export SIZE=tiny CUDA_VISIBLE_DEVICES=
TWO_LAYERS=(--encoder-layers 2) # of tiny's 4, which take longer to learn
PACKAGED=$("$PYTHON" -m fairseq_electra model-path electra_tiny_en)

JOBS=0
start() {  # command...: in the background, as soon as fewer than two jobs run
    if [ $JOBS -ge 2 ]; then await 1; fi
    "$@" &
    JOBS=$((JOBS + 1))
}
await() {  # number of jobs that may go on; fails if one of those that ended did
    while [ $JOBS -gt "$1" ]; do
        JOBS=$((JOBS - 1))
        wait -n
    done
}

run_logged() {  # name, metrics to show, save-dir, command...
    local name=$1 wanted=$2 dir=$3
    shift 3
    [ -f "$dir/done" ] && echo "$name: done before" && return
    mkdir -p "$dir"
    if ! "$@" 2>&1 | "$PYTHON" -m fairseq_electra.runs.show_progress "$name" $wanted; then
        echo "$name failed; the end of $dir/train.log:" >&2
        tail -n 15 "$dir/train.log" >&2
        return 1
    fi
    touch "$dir/done"
}

prepare_data() {
    [ -d "$OUT/data-bin" ] || scripts/prepare_data.sh --vocab-size 1000 --valid "$OUT/corpus/valid.txt" \
        --test "$OUT/corpus/test.txt" "$OUT/data-bin" "$OUT/corpus/train.txt"
}
prepare_swapped() {  # folder, data-bin with the tokenizer
    [ -d "$1/swapped-words" ] ||
        scripts/prepare_tagging.sh "$1/swapped-words" "$2" "$OUT/corpus/swapped"
}
prepare_library() {  # folder, data-bin with the tokenizer
    [ -d "$1/library" ] ||
        scripts/prepare_task.sh --max-tokens 62 "$1/library" "$2" "$OUT/corpus/library"
}
prepare_packaged() {
    mkdir -p "$OUT/packaged"
    prepare_swapped "$OUT/packaged" "$PACKAGED"
    prepare_library "$OUT/packaged" "$PACKAGED"
}

say "making a corpus of the documentation of Python and of the installed libraries"
[ -d "$OUT/corpus" ] || "$PYTHON" scripts/corpus "$OUT/corpus"
say "training a tokenizer, encoding, fairseq-preprocess; two labelled tasks: swapped words, and which library a text is about"
start prepare_data
start prepare_packaged
await 0
start prepare_swapped "$OUT" "$OUT/data-bin"
start prepare_library "$OUT" "$OUT/data-bin"
await 0

say "pre-training ELECTRA ($UPDATES updates) and RoBERTa (as many FLOPs), side by side"
PRETRAINING=(
    "${TWO_LAYERS[@]}" --seed "$SEED" --lr 2e-3 --batch-size 16 --warmup-updates $((UPDATES / 10))
    --log-interval 100 --validate-interval-updates $((UPDATES < 5 ? 1 : UPDATES / 5))
    --batch-size-valid 64 --max-valid-steps 10 # of the held-out text, 40 000 tokens
    --no-save-optimizer-state
)
start run_logged ELECTRA "gen_loss mlm_loss disc_loss disc_auc disc_auc_context disc_recall" \
    "$OUT/electra" scripts/pretrain.sh "$OUT/data-bin" "$OUT/electra" \
    --max-update "$UPDATES" "${PRETRAINING[@]}"
ELECTRA_UPDATES=$UPDATES start run_logged RoBERTa "loss ppl" \
    "$OUT/roberta" scripts/pretrain_mlm.sh "$OUT/data-bin" "$OUT/roberta" "${PRETRAINING[@]}"
await 0

# held-out rows are read once, at the end
find_swapped() {  # name, folder of the task, checkpoint, options
    EPOCHS=${EPOCHS:-10} BATCH=8 run_logged "$1, swapped" "loss f1" "$OUT/swapped-words-$1" \
        scripts/finetune_tagging.sh "$2/swapped-words" "$OUT/swapped-words-$1" "$3" \
        --no-save --validate-interval 100 --tokens-per-sample 64 --lr 2e-4 --weight-init local \
        --seed "$SEED" "${@:4}"
}

name_library() {  # name, folder of the task, checkpoint, options
    EPOCHS=${EPOCHS:-3} run_logged "$1, library" "loss accuracy" "$OUT/library-$1" \
        scripts/finetune.sh "$2/library" "$OUT/library-$1" "$3" \
        --no-save --validate-interval 100 --pooling mean --weight-init local --seed "$SEED" "${@:4}"
}

say "fine-tuning both, the packaged model, and an encoder that was never pre-trained"
for task in name_library find_swapped; do  # the longest first
    start $task packaged "$OUT/packaged" "$PACKAGED/checkpoint.pt"
    start $task ELECTRA "$OUT" "$OUT/electra/checkpoint_last.pt" "${TWO_LAYERS[@]}"
    start $task RoBERTa "$OUT" "$OUT/roberta/checkpoint_last.pt" "${TWO_LAYERS[@]}"
    start $task untrained "$OUT" none "${TWO_LAYERS[@]}"
done

show_replacements() {
    "$PYTHON" -m fairseq_electra show "$OUT/electra/checkpoint_last.pt" \
        --html "$OUT/replacements.html" --force > "$OUT/replacements.txt"
}
start show_replacements
start "$PYTHON" -m fairseq_electra features "ELECTRA=$OUT/electra/checkpoint_last.pt" \
    "RoBERTa=$OUT/roberta/checkpoint_last.pt" \
    "untrained=untrained:$OUT/electra/checkpoint_last.pt" --out "$OUT/features.json"
await 0

say "comparing"
"$PYTHON" -m fairseq_electra compare --out "$OUT" --features "$OUT/features.json" \
    --task "swapped-words=swapped words, F1 (like ELECTRA's own task)" \
    --task "library=which library, accuracy (unlike it)" \
    "ELECTRA=$OUT/electra+$OUT/swapped-words-ELECTRA+$OUT/library-ELECTRA" \
    "RoBERTa=$OUT/roberta+$OUT/swapped-words-RoBERTa+$OUT/library-RoBERTa" \
    "untrained=$OUT/swapped-words-untrained+$OUT/library-untrained" \
    "electra_tiny_en=$OUT/swapped-words-packaged+$OUT/library-packaged"
say "done: table.md, table.json, curves.png and replacements.html are in $OUT"
