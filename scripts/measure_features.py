"""`fairseq-electra features ...`."""

import os
import sys

os.execv(sys.executable, [sys.executable, "-m", "fairseq_electra", "features", *sys.argv[1:]])
