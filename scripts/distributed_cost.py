"""What a pre-training distributed over GPUs costs, on paper: see docs/distributed.md."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from scripts.benchmark.distributed_cost import main  # noqa: E402 (after the path is set)

main()
