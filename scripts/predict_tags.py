"""`fairseq-electra tag --conll ...`."""

import os
import sys

os.execv(sys.executable, [sys.executable, "-m", "fairseq_electra", "tag", "--conll", *sys.argv[1:]])
