"""The report of a reproduce.sh as far as it has run: see docs/evidence.md."""

import logging
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
logging.disable(logging.WARNING)  # matplotlib would tell of its fonts

from scripts.evidence.report import main  # noqa: E402 (after the path is set)

main()
