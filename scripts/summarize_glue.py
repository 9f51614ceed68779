"""One table of several finetune_glue.sh: see docs/finetuning_sentences.md."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from scripts.glue.summary import main  # noqa: E402 (after the path is set)

main()
