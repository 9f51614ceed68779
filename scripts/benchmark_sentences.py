"""How fast it fine-tunes and predicts on sentences: see docs/performance.md."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from scripts.benchmark.sentences import main  # noqa: E402 (after the path is set)

main()
