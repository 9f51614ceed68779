"""The quickstart's corpus: `python scripts/corpus OUT_DIR`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.corpus.run import main  # noqa: E402 (after the path is set)

main()
