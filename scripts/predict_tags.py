"""`fairseq-electra tag ...`."""

import os
import sys

os.execv(sys.executable, [sys.executable, "-m", "fairseq_electra", "tag", *sys.argv[1:]])
