#!/usr/bin/env bash
# Raw text -> tokenizer -> pieces -> fairseq-preprocess -> a data-bin: see --help.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$PYTHON" -m fairseq_electra prepare-data "$@"
