#!/usr/bin/env bash
# SQuAD's JSON -> a folder for --task electra_answers: see --help.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$PYTHON" -m fairseq_electra prepare-squad "$@"
