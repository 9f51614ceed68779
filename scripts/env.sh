# Source this. Sets ROOT, and PYTHON: the first that has fairseq of the active environment's (venv or
# conda), .venv's, and the `python` of PATH.
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
ACTIVE=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
for PYTHON in "${ACTIVE:+$ACTIVE/bin/python}" "$ROOT/.venv/bin/python" "$(command -v python)" ""; do
    (cd "$ROOT" && "${PYTHON:-false}" -c 'import sys, importlib.util as u
sys.exit(not all(map(u.find_spec, ("fairseq", "sentencepiece", "tokenizers"))))' 2> /dev/null) && break
done
[ -n "$PYTHON" ] || { echo "no Python that has fairseq: run scripts/setup.sh first" >&2; exit 1; }
export PYTHON PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
