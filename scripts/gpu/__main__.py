"""`python scripts/gpu`: see run.py."""

import logging
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])
logging.disable(logging.WARNING)

from scripts.gpu.run import main  # noqa: E402 (after the path is set)

main()
