"""How fast sentences become vectors: see docs/performance.md."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from scripts.benchmark.embedding import main  # noqa: E402 (after the path is set)

main()
