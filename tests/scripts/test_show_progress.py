"""Progress lines: what of fairseq's output is shown, and that it is shown at once."""

import subprocess
import sys

from tiny import ROOT

LOG = """2026-01-01 00:00:00 | INFO | fairseq_cli.train | Namespace(a=1)
2026-01-01 00:00:01 | INFO | train_inner | epoch 001:     20 / 800 loss=27.5, gen_loss=8.5, \
disc_auc=0.6, num_updates=20, lr=0.0005
2026-01-01 00:00:02 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 25 | gen_loss 7 \
| num_updates 20
2026-01-01 00:00:03 | INFO | train | epoch 001 | loss 26 | gen_loss 8 | num_updates 20
"""
COMMAND = [sys.executable, str(ROOT / "scripts" / "show_progress.py"), "ELECTRA", "gen_loss", "auc"]


def test_intervals_and_validations_are_shown():
    done = subprocess.run(COMMAND, input=LOG, text=True, capture_output=True, check=True)
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["ELECTRA", "training", "update", "20", "gen_loss", "8.5"],
        ["ELECTRA", "held", "out", "update", "20", "gen_loss", "7"],
    ]


def test_a_line_is_shown_before_the_next_one_comes():
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.writelines(LOG.splitlines(keepends=True)[:2])
        process.stdin.flush()
        assert "gen_loss 8.5" in process.stdout.readline()
        process.stdin.close()
