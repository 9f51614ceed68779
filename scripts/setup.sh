#!/usr/bin/env bash
# Set up the plugin with fairseq, in the active environment (venv or conda) or else in .venv.
# Run it as often as you like: it does nothing when the pinned versions are there.
set -euo pipefail
cd "$(dirname "$0")/.."

FAIRSEQ=ve-fairseq==0.12.3  # Python 3.11 and 3.12; fairseq 0.12.2 imports on 3.10 at most

find_python() {
    local name
    for name in python3.12 python3.11 python3 python; do
        if command -v "$name" > /dev/null &&
            "$name" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2> /dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "setup: Python 3.11 or 3.12 is needed (found: $(python3 --version 2>&1))" >&2
    return 1
}

if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    PYTHON=$(command -v python)
else
    [ -x .venv/bin/python ] || { PYTHON=$(find_python) && "$PYTHON" -m venv .venv; }
    PYTHON=$PWD/.venv/bin/python
fi

STAMP=$("$PYTHON" -c 'import sys; print(sys.prefix)')/.fairseq_electra_setup
WANTED="$PWD $FAIRSEQ $(cksum < scripts/requirements.txt) $(cksum < setup.py)"
if [ "$(cat "$STAMP" 2> /dev/null)" = "$WANTED" ]; then
    exit 0
fi

echo "setup: installing into $("$PYTHON" -c 'import sys; print(sys.prefix)'), about a minute on a fast connection"
# pip would compile all modules one after the other
pip_install() {
    "$PYTHON" -m pip --disable-pip-version-check --no-input install --quiet --no-compile "$@"
}
# torch first, alone: any looser requirement would take the newest build instead
pip_install "$(grep '^torch==' scripts/requirements.txt)"
pip_install --requirement scripts/requirements.txt
# without dependencies: fairseq asks for torchaudio, which text does not need and whose build for
# CUDA breaks `import transformers` beside a CPU-only torch
pip_install --no-deps "$FAIRSEQ"
pip_install --no-deps --no-build-isolation --editable .
# on all cores, without transformers' hundreds of models; what cannot be compiled is not imported either
SITE=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$PYTHON" -W ignore -m compileall -q -j 0 -x 'transformers/models|/tests?/' "$SITE" &> /dev/null || true
"$PYTHON" -c 'import fairseq_electra.compat as c; print("setup: ready,", c.describe_versions())' 2> /dev/null
echo "$WANTED" > "$STAMP"
