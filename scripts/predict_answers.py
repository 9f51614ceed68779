"""`fairseq-electra answer --squad ...`."""

import os
import sys

os.execv(
    sys.executable, [sys.executable, "-m", "fairseq_electra", "answer", "--squad", *sys.argv[1:]]
)
