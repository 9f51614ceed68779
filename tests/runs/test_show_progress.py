"""Progress lines: what of fairseq's output is shown, and that it is shown at once."""

import subprocess
import sys

LOG = """2026-01-01 00:00:00 | INFO | fairseq_cli.train | Namespace(a=1)
2026-01-01 00:00:01 | INFO | train_inner | epoch 001:     20 / 800 loss=27.5, gen_loss=8.5, \
disc_auc=0.6, num_updates=20, lr=0.0005
2026-01-01 00:00:02 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 25 | gen_loss 7 \
| num_updates 20
2026-01-01 00:00:03 | INFO | train | epoch 001 | loss 26 | gen_loss 8 | num_updates 20
"""
MODULE = "fairseq_electra.runs.show_progress"
COMMAND = [sys.executable, "-m", MODULE, "ELECTRA", "gen_loss", "auc"]


def test_intervals_and_validations_are_shown():
    done = subprocess.run(COMMAND, input=LOG, text=True, capture_output=True, check=True)
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["ELECTRA", "training", "update", "20", "gen_loss", "8.5"],
        ["ELECTRA", "held", "out", "update", "20", "gen_loss", "7"],
    ]


STAGES = """2026-01-01 00:00:01 | INFO | train_inner | epoch 001:     20 / 800 loss=27.5, \
disc_auc=0, mlm_loss=7.5, num_updates=20
2026-01-01 00:00:02 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 25 | disc_auc 0 \
| mlm_loss 7.25 | num_updates 20
2026-01-01 00:00:03 | INFO | train_inner | epoch 001:     40 / 800 loss=27.5, mlm_loss=None, \
disc_auc=0.6, num_updates=40
2026-01-01 00:00:04 | INFO | valid | epoch 001 | valid on 'valid' subset | disc_auc 0.625 \
| disc_auc_context 0.5625 | num_updates 40
"""


def test_each_stage_shows_what_it_has():
    command = [*COMMAND[:4], "mlm_loss", "disc_auc", "disc_auc_context"]
    done = subprocess.run(command, input=STAGES, text=True, capture_output=True, check=True)
    assert [line.split("update ")[1].split() for line in done.stdout.splitlines()] == [
        ["20", "mlm_loss", "7.5"],
        ["20", "mlm_loss", "7.25"],
        ["40", "disc_auc", "0.6"],
        ["40", "disc_auc", "0.625", "disc_auc_context", "0.5625"],
    ]


def test_a_line_is_shown_before_the_next_one_comes():
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.writelines(LOG.splitlines(keepends=True)[:2])
        process.stdin.flush()
        assert "gen_loss 8.5" in process.stdout.readline()
        process.stdin.close()
