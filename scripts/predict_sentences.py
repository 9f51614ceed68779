"""`fairseq-electra predict ...`."""

import os
import sys

os.execv(sys.executable, [sys.executable, "-m", "fairseq_electra", "predict", *sys.argv[1:]])
