"""The training losses of electra_tiny at a fixed seed, as they were when somebody last looked.

A change that should not change numbers must pass; one that should is followed by
`UPDATE_GOLDEN=1 pytest tests/test_golden.py` and a word in the commit about why.

torch's versions draw other random numbers at the same seed, so each file of losses names a few of
those it was made with, and a torch that draws none of them skips the test.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from tiny import new_batches

GOLDEN = Path(__file__).parent / "golden"
NEW = GOLDEN / "electra_tiny.json"  # what UPDATE_GOLDEN writes; the others are of older torches


def draw_random_numbers() -> list[float]:
    """The first of what torch draws for weights and for samples, after a seed."""
    torch.manual_seed(1)
    weights = torch.nn.init.trunc_normal_(torch.empty(4, 4))
    samples = torch.empty(1000).exponential_()
    return [round(float(number), 3) for number in (*weights[0], *samples[:4])]


def read_golden() -> list[dict[str, float]]:
    """The losses that were made with this torch's random numbers."""
    drawn = draw_random_numbers()
    for file in sorted(GOLDEN.glob("electra_tiny*.json")):
        golden = json.loads(file.read_text())
        if golden["random numbers"] == drawn:
            return golden["updates"]
    pytest.skip(f"torch {torch.__version__} draws other random numbers than every golden file's")


def train(run_command, data_bin, save_dir):
    """Twenty updates of the real electra_tiny, dropout and all."""
    output = run_command(
        *(sys.executable, "-m", "fairseq_cli.train", data_bin, "--cpu", "--no-save"),
        *("--user-dir", "fairseq_electra", "--task", "electra", "--criterion", "electra"),
        *("--arch", "electra_tiny", "--tokens-per-sample", 32, "--batch-size", 16),
        *("--optimizer", "electra_adam", "--lr", "1e-3", "--clip-norm", 1.0),
        *("--lr-scheduler", "electra_decay", "--warmup-updates", 5, "--max-update", 20),
        *("--disable-validation", "--num-workers", 0, "--save-dir", save_dir, "--seed", 7),
        *("--log-format", "json", "--log-interval", 1),
    ).output
    lines = [
        line.split("train_inner | ")[1] for line in output.splitlines() if "train_inner" in line
    ]
    names = ("loss", "gen_loss", "disc_loss", "sampled_acc", "gnorm")
    return [{name: float(json.loads(line)[name]) for name in names} for line in lines]


@new_batches
def test_twenty_updates_of_electra_tiny(run_command, data_bin, tmp_path):
    updates = train(run_command, data_bin, tmp_path)
    assert len(updates) == 20
    if os.environ.get("UPDATE_GOLDEN"):
        content = {"random numbers": draw_random_numbers(), "updates": updates}
        NEW.write_text(json.dumps(content, indent=1) + "\n")
    for number, (ours, expected) in enumerate(zip(updates, read_golden(), strict=True)):
        for name, value in expected.items():
            # another CPU's kernels round differently, which twenty updates amplify a little
            assert ours[name] == pytest.approx(value, rel=2e-3, abs=2e-3), (number, name)
