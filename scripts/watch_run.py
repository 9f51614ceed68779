"""`fairseq-electra watch ...`."""

import os
import sys

os.execv(sys.executable, [sys.executable, "-m", "fairseq_electra", "watch", *sys.argv[1:]])
