"""`fairseq-electra answer ...`."""

import os
import sys

os.execv(sys.executable, [sys.executable, "-m", "fairseq_electra", "answer", *sys.argv[1:]])
