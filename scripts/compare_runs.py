"""`fairseq-electra compare ...`."""

import os
import sys

os.execv(sys.executable, [sys.executable, "-m", "fairseq_electra", "compare", *sys.argv[1:]])
