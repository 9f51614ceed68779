# Source this after env.sh: what the scripts that train have in common. Sets DATA, SAVE_DIR, and OPTIONS,
# which are for fairseq-train, of the arguments that USAGE names: take_arguments USAGE "$@"
take_arguments() {
    local usage=$1 named
    named=($usage)
    shift
    if [ $# -lt ${#named[@]} ] || [ "${1#-}" != "$1" ] || [ "${2#-}" != "$2" ]; then
        echo "usage: SIZE=small $0 $usage [fairseq-train options]" >&2
        exit 2
    fi
    DATA=$1 SAVE_DIR=$2 CHECKPOINT=${3:-}
    OPTIONS=("${@:${#named[@]}+1}")
}

# SIZE, and with tiny BUDGET and RECIPE, as arguments of `fairseq-electra recipe`
CHOICES=("${SIZE:-small}" ${BUDGET:+--budget "$BUDGET"})
case ${RECIPE:-local} in
    local) ;;
    paper) CHOICES+=(--plain) ;;
    *) echo "RECIPE must be local or paper, not '$RECIPE'" >&2 && exit 2 ;;
esac

fairseq-train() { "$PYTHON" -m fairseq_cli.train "$@"; }

# Runs the command that `fairseq-electra recipe` prints for these arguments, and keeps what it prints in
# SAVE_DIR/train.log, over all its restarts.
train() {
    local command
    command=$("$PYTHON" -m fairseq_electra recipe "${CHOICES[@]}" \
        --data "$DATA" --save-dir "$SAVE_DIR" "$@" "${OPTIONS[@]}")
    mkdir -p "$SAVE_DIR"
    eval "$command" 2>&1 | tee -a "$SAVE_DIR/train.log"
}

pretrain() { # MODEL [arguments of recipe]
    train --model "$1" "${@:2}" ${MICRO_BATCH:+--micro-batch "$MICRO_BATCH"} --
}

# A model that costs as much as ELECTRA: pretrain_matched MODEL
pretrain_matched() {
    local electra=(
        ${ELECTRA_UPDATES:+--max-update "$ELECTRA_UPDATES"}
        ${MLM_UPDATES:+--mlm-updates "$MLM_UPDATES"} ${ELECTRA_OPTIONS:-}
    )
    pretrain "$1" --electra-options "${electra[*]} "
}

finetune() { # KIND
    OPTIONS=(
        ${BATCH:+--batch-size "$BATCH"} ${LAYER_DECAY:+--layerwise-lr-decay "$LAYER_DECAY"}
        "${OPTIONS[@]}"
    )
    train --model "${MODEL:-electra}" --finetune "$1" --checkpoint "$CHECKPOINT" \
        ${EPOCHS:+--epochs "$EPOCHS"} --
}
