# Source this. Sets ROOT, and PYTHON: the `python` of PATH if it has fairseq, else .venv's.
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
for PYTHON in "$(command -v python)" "$ROOT/.venv/bin/python" ""; do
    (cd "$ROOT" && "${PYTHON:-false}" -c 'import sys, importlib.util as u
sys.exit(not all(map(u.find_spec, ("fairseq", "sentencepiece", "tokenizers"))))' 2> /dev/null) && break
done
[ -n "$PYTHON" ] || { echo "no Python that has fairseq: run scripts/setup.sh first" >&2; exit 1; }
export PYTHON PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
