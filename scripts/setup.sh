#!/usr/bin/env bash
# Set up the plugin with fairseq, in the active environment (venv or conda) or else in .venv.
# Run it as often as you like: it does nothing when the pinned versions are there.
set -euo pipefail
cd "$(dirname "$0")/.."

WHEEL=ve-fairseq==0.12.3  # Python 3.11 and 3.12 on x86-64 Linux; fairseq 0.12.2 imports on 3.10 at most
SOURCE=fairseq-fixed==0.12.3.1  # the same for text, as source; no fairseq imports on 3.14
CYTHON=Cython==3.1.8  # compiles it

# The fairseq for a Python, or nothing where none works.
choose_fairseq() {  # PYTHON
    local version='import sys, sysconfig as s; print("%d.%d" % sys.version_info[:2], s.get_platform())'
    case $("$1" -c "$version" 2> /dev/null) in
        "3.11 linux-x86_64" | "3.12 linux-x86_64") echo "$WHEEL" ;;
        3.1[123]" "*) echo "$SOURCE" ;;
    esac
}

find_python() {
    local fairseq name
    for fairseq in "$WHEEL" "$SOURCE"; do
        for name in python3.12 python3.11 python3.13 python3 python; do
            if [ "$(choose_fairseq "$name")" = "$fairseq" ]; then
                command -v "$name"
                return
            fi
        done
    done
    echo python3
}

refuse() {  # WHAT IS MISSING
    local remedy="install Python 3.12"
    ! command -v uv > /dev/null || remedy="make .venv by: uv venv --seed --python 3.12 .venv"
    echo "setup: $1; ${ACTIVE:+deactivate and }$remedy" >&2
    exit 1
}

check_compiler() {
    local header
    header=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    command -v "${CXX:-c++}" g++ clang++ > /dev/null && [ -e "$header" ] ||
        refuse "to compile fairseq, a C++ compiler and $header are needed"
}

ACTIVE=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
if [ -n "$ACTIVE" ]; then
    PYTHON=$(command -v python)
    PREFIX=$("$PYTHON" -c 'import sys; print(sys.prefix)')
else
    PREFIX=$PWD/.venv
    PYTHON=$PREFIX/bin/python
    [ -x "$PYTHON" ] || PYTHON=$(find_python)
fi
FAIRSEQ=$(choose_fairseq "$PYTHON")
if [ -z "$FAIRSEQ" ]; then
    FOUND=$("$PYTHON" --version 2> /dev/null || echo nothing)
    refuse "Python 3.11, 3.12 or 3.13 is needed (found: $FOUND as $PYTHON)"
fi

STAMP=$PREFIX/.fairseq_electra_setup
WANTED="$PWD $FAIRSEQ $(cksum < scripts/requirements.txt) $(cksum < setup.py)"
if [ -x "$PREFIX/bin/python" ] && [ "$(cat "$STAMP" 2> /dev/null)" = "$WANTED" ]; then
    exit 0
fi
[ "$FAIRSEQ" = "$WHEEL" ] || check_compiler

if [ -z "$ACTIVE" ] && [ ! -x "$PREFIX/bin/python" ]; then
    "$PYTHON" -m venv "$PREFIX"
    PYTHON=$PREFIX/bin/python
fi
echo "setup: installing into $PREFIX, about a minute on a fast connection"
[ "$FAIRSEQ" = "$WHEEL" ] ||
    echo "setup: fairseq has no wheel for $("$PYTHON" --version) on this system and is compiled, some minutes more"
# pip would compile all modules one after the other: here all cores do, torch's while the rest is installed;
# without transformers' hundreds of models. What cannot be compiled is not imported either
SITE=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
compile() {
    "$PYTHON" -W ignore -m compileall -q -j 0 -x 'transformers/models|/tests?/' "$@" &> /dev/null || true
}
pip_install() {
    "$PYTHON" -m pip --disable-pip-version-check --no-input install --quiet --no-compile "$@"
}
# torch first, alone: any looser requirement would take the newest build instead
pip_install "$(grep '^torch==' scripts/requirements.txt)"
compile "$SITE/torch" &
pip_install --requirement scripts/requirements.txt
[ "$FAIRSEQ" = "$WHEEL" ] || pip_install "$CYTHON"
# without dependencies: fairseq asks for torchaudio, which text does not need and whose build for
# CUDA breaks `import transformers` beside a CPU-only torch; source is compiled with what is installed
pip_install --no-deps --no-build-isolation "$FAIRSEQ"
pip_install --no-deps --no-build-isolation --editable .
wait
compile "$SITE"
"$PYTHON" -c 'import fairseq_electra.compat as c; print("setup: ready,", c.describe_versions())' 2> /dev/null
echo "$WANTED" > "$STAMP"
