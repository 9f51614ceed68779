#!/usr/bin/env bash
# Run tests with several versions of Python, fairseq and torch: scripts/test_versions.sh [ROW...]
# Each row gets a venv in ENVS (default /tmp/fairseq_electra_versions), kept for the next call, and
# a line of a table. TESTS are the files to run (default: a short, telling selection).
# Without arguments all rows run; a row that cannot be made says why, and the last status is not 0
# if a row's tests failed. torch's build for Linux is several GB with CUDA's libraries;
# TORCH_INDEX=https://download.pytorch.org/whl/cpu installs its CPU build.
set -euo pipefail
cd "$(dirname "$0")/.."

ENVS=${ENVS:-/tmp/fairseq_electra_versions}
TESTS=${TESTS:-tests/compat tests/test_golden.py tests/models/test_electra.py
    tests/modules/test_corruption.py tests/criterions/test_electra.py tests/data
    tests/optim/test_electra_adam.py tests/tasks/test_electra.py
    tests/conversion/test_hf.py tests/conversion/test_tf.py}
NEEDED=(bitarray cffi matplotlib packaging regex sacrebleu scikit-learn sentencepiece tokenizers tqdm)
HYDRA=(hydra-core==1.3.8 omegaconf==2.3.1 numpy)
HYDRA_STOCK=(hydra-core==1.0.7 omegaconf==2.0.6 "numpy<2")  # what fairseq 0.12.2 asks for

# row: Python, fairseq, torch, further packages
describe_row() {
    case $1 in
        python3.11) echo "3.11 ve-fairseq==0.12.3 2.13.0" ;;
        python3.12) echo "3.12 ve-fairseq==0.12.3 2.13.0" ;;
        python3.13) echo "3.13 fairseq-fixed==0.12.3.1 2.13.0" ;;
        transformers) echo "3.11 ve-fairseq==0.12.3 2.13.0 transformers safetensors protobuf" ;;
        tensorflow) echo "3.11 ve-fairseq==0.12.3 2.13.0 tensorflow-cpu safetensors" ;;
        oldest-torch) echo "3.11 ve-fairseq==0.12.3 2.6.0" ;;
        middle-torch) echo "3.12 ve-fairseq==0.12.3 2.9.1" ;;
        newer-torch) echo "3.12 ve-fairseq==0.12.3 2.14.1" ;;
        stock) echo "3.10 fairseq==0.12.2 2.13.0" ;;
        *) echo "test_versions: no row $1 (rows: $ROWS)" >&2; return 1 ;;
    esac
}
ROWS="python3.11 python3.12 python3.13 transformers tensorflow oldest-torch middle-torch newer-torch stock"

# All are called where bash ignores `set -e`, hence the chains of &&.
install_stock_fairseq() {  # ENV PYTHON
    # Where torch is installed, its setup.py builds extensions whose sources it does not have: so
    # the wheel is made in a venv without torch.
    "$2" -m venv "$1-build" &&
        "$1-build/bin/pip" install -q "setuptools<70" wheel "cython<3" "numpy<2" &&
        "$1-build/bin/pip" wheel -q --no-deps --no-build-isolation -w "$1-build" fairseq==0.12.2 &&
        "$1/bin/pip" install -q --no-deps "$1-build"/fairseq-0.12.2*.whl
}

install_fairseq_source() {  # ENV FAIRSEQ; compiled with the torch and numpy of ENV
    "$1/bin/pip" install -q setuptools wheel Cython==3.1.8 &&
        "$1/bin/pip" install -q --no-deps --no-build-isolation "$2"
}

make_env() {  # ENV PYTHON FAIRSEQ TORCH PACKAGE...
    local env=$1 python=$2 fairseq=$3 torch=$4 hydra=("${HYDRA[@]}")
    shift 4
    [ ! -e "$env/ready" ] || return 0
    [ "$fairseq" != fairseq==0.12.2 ] || hydra=("${HYDRA_STOCK[@]}")
    "$python" -m venv "$env" &&
        "$env/bin/pip" install -q "pip<24.1" &&  # later ones refuse omegaconf 2.0.6
        "$env/bin/pip" install -q ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==$torch" &&
        "$env/bin/pip" install -q "${hydra[@]}" "${NEEDED[@]}" pytest hypothesis "$@" || return 1
    case $fairseq in
        fairseq==*) install_stock_fairseq "$env" "$python" ;;
        fairseq-fixed==*) install_fairseq_source "$env" "$fairseq" ;;
        *) "$env/bin/pip" install -q --no-deps "$fairseq" ;;
    esac || return 1
    touch "$env/ready"
}

SHOW_VERSIONS='
import importlib.metadata as metadata
def version(*names):
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return "-"
import platform
apex = "-"
try:
    from apex.optimizers import FusedAdam
    apex = "yes"
except Exception:
    pass
rows = [("ve-fairseq", "fairseq-fixed", "fairseq"), ("torch",), ("numpy",), ("transformers",), ("tensorflow-cpu", "tensorflow")]
print(platform.python_version(), *(version(*row) for row in rows), apex, sep=" | ")'

test_row() {  # ROW; prints its line of the table
    local row=$1 python env counts words
    words=$(describe_row "$row")
    read -r -a words <<< "$words"
    python=$(command -v "python${words[0]}") || {
        echo "| $row | not run: no python${words[0]} |"
        return
    }
    env=$ENVS/$row
    mkdir -p "$ENVS"
    if ! make_env "$env" "$python" "${words[@]:1}" > "$env.install.log" 2>&1; then
        echo "| $row | not run: $(grep -m 1 ERROR "$env.install.log" || echo see "$env.install.log") |"
        return
    fi
    # shellcheck disable=SC2086 (TESTS is a list)
    PYTHONPATH=$PWD OMP_NUM_THREADS=1 "$env/bin/python" -m pytest -p no:cacheprovider -rs $TESTS \
        > "$env.log" 2>&1 || true
    counts=$(grep -aE "[0-9]+ (passed|failed|skipped|error)" "$env.log" | tail -n 1 || echo "no result: see $env.log")
    echo "| $row | $("$env/bin/python" -c "$SHOW_VERSIONS") | $counts |"
    [[ $counts == *passed* && $counts != *failed* && $counts != *error* ]]
}

echo "| row | Python | fairseq | torch | numpy | transformers | TensorFlow | Apex | tests |"
echo "|---|---|---|---|---|---|---|---|---|"
failed=0
for row in ${*:-$ROWS}; do
    test_row "$row" || failed=1
done
exit $failed
