#!/usr/bin/env bash
# Labelled text -> input0 and label for fairseq's sentence_prediction task: see --help.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$PYTHON" -m fairseq_electra prepare-task "$@"
