#!/usr/bin/env bash
# CoNLL files -> data for --task electra_tagging: see --help.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$PYTHON" -m fairseq_electra prepare-tagging "$@"
