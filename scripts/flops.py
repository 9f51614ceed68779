"""`fairseq-electra flops ...`."""

import os
import sys

os.execv(sys.executable, [sys.executable, "-m", "fairseq_electra", "flops", *sys.argv[1:]])
