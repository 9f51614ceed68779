"""`fairseq-electra show ...`."""

import os
import sys

os.execv(sys.executable, [sys.executable, "-m", "fairseq_electra", "show", *sys.argv[1:]])
