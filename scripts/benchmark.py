"""How fast this machine trains: see docs/performance.md."""

import logging
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
logging.disable(logging.INFO)

from scripts.benchmark.run import main  # noqa: E402 (after the path is set)

main()
