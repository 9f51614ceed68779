# Source this after env.sh: the settings of SIZE (paper, table 6), and how they fit this machine.
SIZE=${SIZE:-small}
MASK_PROB=0.15 WARMUP=10000 FINETUNE_LAYER_DECAY=0.8
ENCODER_START=() ELECTRA_START=() # options of pre-training: of encoders, and beside them of ELECTRA alone
GENERATOR=() # what of its sizes is not the arch's
MLM_SHARE=0 # one in so many of ELECTRA's updates is of its first stage (--mlm-updates); 0: none
MOST_MLM=4000 # updates of that stage
# SEQUENCE_MB: what a step keeps of a sequence for its backward pass, in bf16 on the CPU; for large
# base's, by its sizes (docs/performance.md)
case $SIZE in
    tiny) # not the paper's: for one core, with what small runs learn by (docs/small-runs.md)
        LAYERS=4 HIDDEN=128 FFN=512 HEADS=2 TOKENS=64 BATCH=32 FINETUNE_LR=5e-4 SEQUENCE_MB=5
        GENERATOR=(--generator-size 0.25)
        case ${BUDGET:-minutes} in # at about 10 000 tokens/s
            minutes) UPDATES=1500 WARMUP=150 FINETUNE_LAYER_DECAY=1 ;;
            hour) UPDATES=17500 WARMUP=500 ;;
            night) UPDATES=140000 WARMUP=2000 ;;
            *) echo "BUDGET must be minutes, hour or night, not '$BUDGET'" >&2 && exit 2 ;;
        esac
        case ${RECIPE:-local} in
            local)
                LR=1e-3 MASK_PROB=0.3 MLM_SHARE=3
                ENCODER_START=(--weight-init local --dropout 0 --attention-dropout 0 --adam-bias-correction)
                ELECTRA_START=(--disc-weight 10)
                ;;
            paper) LR=5e-4 ;;
            *) echo "RECIPE must be local or paper, not '$RECIPE'" >&2 && exit 2 ;;
        esac
        ;;
    small)
        LAYERS=12 HIDDEN=256 FFN=1024 HEADS=4 TOKENS=128
        LR=5e-4 BATCH=128 UPDATES=1000000 FINETUNE_LR=3e-4 SEQUENCE_MB=29
        ;;
    base)
        LAYERS=12 HIDDEN=768 FFN=3072 HEADS=12 TOKENS=512
        LR=2e-4 BATCH=256 UPDATES=766000 FINETUNE_LR=1e-4 SEQUENCE_MB=900
        ;;
    large)
        LAYERS=24 HIDDEN=1024 FFN=4096 HEADS=16 TOKENS=512
        LR=2e-4 BATCH=2048 UPDATES=400000 FINETUNE_LR=5e-5 FINETUNE_LAYER_DECAY=0.9
        MASK_PROB=0.25 SEQUENCE_MB=2400
        ;;
    *) echo "SIZE must be tiny, small, base or large, not '$SIZE'" >&2 && exit 2 ;;
esac

# Ends unless the value of a variable is a whole number from 1 on.
check_count() {
    if ! [[ $2 =~ ^[1-9][0-9]{0,8}$ ]]; then
        echo "$1 must be a whole number from 1 on, not '$2'" >&2
        exit 2
    fi
}

check_arguments() {
    if [ $# -lt 2 ] || [ "${1#-}" != "$1" ] || [ "${2#-}" != "$2" ]; then
        echo "usage: SIZE=$SIZE $0 DATA_BIN SAVE_DIR [fairseq-train options]" >&2
        exit 2
    fi
    if [ ! -f "$1/dict.txt" ]; then
        echo "no dict.txt in '$1': make the data with scripts/prepare_data.sh" >&2
        exit 2
    fi
}

check_count MICRO_BATCH "${MICRO_BATCH:-1}"

# GPUs, what they compute in, MB of memory of one
read -r GPUS PRECISION GPU_MB <<< "$("$PYTHON" -c '
import torch
gpus = torch.cuda.device_count()
has_bf16 = gpus and torch.cuda.is_bf16_supported(including_emulation=False)
memory = torch.cuda.get_device_properties(0).total_memory if gpus else 0
print(gpus, "bf16" if has_bf16 else "float32", memory >> 20)')"
DEVICES=$((GPUS > 0 ? GPUS : 1))
DEVICE=$([ "$GPUS" -gt 0 ] || echo --cpu)
# processes that load data, for each device: one makes about a million tokens a second
CORES=$(getconf _NPROCESSORS_ONLN)
LOADERS=$((GPUS > 0 ? CORES / DEVICES : 2))
LOADERS=$((LOADERS < 1 ? 1 : LOADERS > 8 ? 8 : LOADERS))

# Sets DEVICE_BATCH and UPDATE_FREQ so that an update has BATCH sequences, or as near to it as whole
# batches of all devices come; a line says what it has then.
fit_batch() {
    local each=$(((BATCH + DEVICES / 2) / DEVICES)) most least total
    each=$((each > 0 ? each : 1)) # of a device, in an update
    if [ -n "${MICRO_BATCH:-}" ]; then
        DEVICE_BATCH=$MICRO_BATCH
        UPDATE_FREQ=$(((each + MICRO_BATCH / 2) / MICRO_BATCH))
        UPDATE_FREQ=$((UPDATE_FREQ > 0 ? UPDATE_FREQ : 1))
    else
        most=$((GPUS > 0 ? GPU_MB * 7 / (SEQUENCE_MB * 10) : each)) # fairseq skips what does not fit
        most=$((most < 1 ? 1 : most < each ? most : each))
        least=$(((each + most - 1) / most))
        UPDATE_FREQ=$least
        while [ $((each % UPDATE_FREQ)) -ne 0 ] && [ "$UPDATE_FREQ" -lt $((least * 2)) ]; do
            UPDATE_FREQ=$((UPDATE_FREQ + 1))
        done
        [ $((each % UPDATE_FREQ)) -eq 0 ] || UPDATE_FREQ=$least
        DEVICE_BATCH=$(((each + UPDATE_FREQ / 2) / UPDATE_FREQ))
        DEVICE_BATCH=$((DEVICE_BATCH > most ? most : DEVICE_BATCH))
    fi
    total=$((DEVICE_BATCH * DEVICES * UPDATE_FREQ))
    [ "$total" -eq "$BATCH" ] ||
        echo "a batch of $total sequences for $BATCH: $DEVICES device(s) x $DEVICE_BATCH x $UPDATE_FREQ" >&2
}

SAVING=(
    --save-interval-updates 5000 --keep-interval-updates 2 --no-epoch-checkpoints
    --validate-interval-updates 5000 --log-interval 100 --log-format simple
)

# Sets ARCH to the options of the model that MODEL names, for fine-tuning.
choose_model() {
    case ${MODEL:-electra} in
        electra) ARCH=(--arch "electra_$SIZE") ;;
        roberta)
            ARCH=(
                --arch roberta_layerwise --encoder-layers "$LAYERS" --encoder-embed-dim "$HIDDEN"
                --encoder-ffn-embed-dim "$FFN" --encoder-attention-heads "$HEADS" --max-positions 512
            )
            ;;
        *) echo "MODEL must be electra or roberta, not '$MODEL'" >&2 && exit 2 ;;
    esac
}

# Sets UPDATES to those of another model, roberta or mlm, that cost as much as ELECTRA's, with the sizes
# among its fairseq-train options: match_electra MODEL [options]
match_electra() {
    local model=$1 matched=${ELECTRA_UPDATES:-$UPDATES}
    shift
    choose_mlm_updates "$matched"
    UPDATES=$("$PYTHON" -m fairseq_electra flops "--match-$model" --arch "electra_$SIZE" \
        --data "$DATA" --tokens-per-sample "$TOKENS" --mask-prob "$MASK_PROB" \
        --updates "$matched" --mlm-updates "$MLM_UPDATES" -- "${GENERATOR[@]}" ${ELECTRA_OPTIONS:-} "$@")
    echo "RoBERTa: $UPDATES updates cost as much as ELECTRA's $matched" >&2
}

# Sets MLM_UPDATES, unless it is given, for a run of $1 updates of ELECTRA.
choose_mlm_updates() {
    local usual=$((MLM_SHARE > 0 ? $1 / MLM_SHARE : 0))
    MLM_UPDATES=${MLM_UPDATES:-$((usual < MOST_MLM ? usual : MOST_MLM))}
}

# The value of option $1 among the others, or $2.
read_option() {
    local name=$1 value=$2
    shift 2
    while [ $# -gt 0 ]; do
        [ "$1" != "$name" ] || value=${2:-$value}
        shift
    done
    echo "$value"
}

# Runs fairseq-train and keeps what it prints in SAVE_DIR/train.log, over all its restarts.
train() {
    mkdir -p "$SAVE_DIR"
    "$PYTHON" -m fairseq_cli.train "$@" 2>&1 | tee -a "$SAVE_DIR/train.log"
}
