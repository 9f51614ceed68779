"""A short run on a language of nothing but context learns to read it, and a collapse is told."""

import json
import random
import re
import sys

import pytest

from tiny import TINY_OPTIONS, USER_DIR

WORDS = 40
RECIPE = (
    *("--weight-init", "local", "--mlm-updates", 150, "--adam-bias-correction", "--lr", "4e-3"),
    *("--disc-weight", 10, "--mask-prob", 0.3),
)


@pytest.fixture(scope="module")
def toy_language(tmp_path_factory, run_command):
    """A data-bin in which each word has four that may follow it, and all are equally frequent.

    So a word by itself says nothing of whether it was replaced.
    """
    folder = tmp_path_factory.mktemp("toy")
    rng = random.Random(6)
    for split, lines in (("train", 2000), ("valid", 200)):
        with (folder / f"{split}.txt").open("w") as out:
            for _ in range(lines):
                words = [rng.randrange(WORDS)]
                while len(words) < 30:
                    words.append((3 * words[-1] + rng.randrange(4)) % WORDS)
                out.write(" ".join(f"w{word}" for word in words) + "\n")
    (folder / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(WORDS)))
    run_command(
        *(sys.executable, "-m", "fairseq_cli.preprocess", "--only-source"),
        *("--trainpref", folder / "train.txt", "--validpref", folder / "valid.txt"),
        *("--srcdict", folder / "dict.txt", "--destdir", folder / "bin"),
    )
    return folder / "bin"


def train(run_command, data, save_dir, *options):
    """The last validation, and all that was printed."""
    output = run_command(
        *(sys.executable, "-m", "fairseq_cli.train", data, "--user-dir", USER_DIR, "--cpu"),
        *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny", *TINY_OPTIONS),
        *("--optimizer", "electra_adam", "--clip-norm", 1.0, "--lr-scheduler", "electra_decay"),
        *("--warmup-updates", 30, "--max-update", 600, "--num-workers", 0, "--no-save"),
        *("--tokens-per-sample", 32, "--batch-size", 16, "--save-dir", save_dir),
        *("--log-format", "json", *options),
    ).output
    lines = re.findall(r"\| valid \| (\{.*\})", output)
    return {name: float(value) for name, value in json.loads(lines[-1]).items()}, output


@pytest.mark.campaign
def test_a_short_run_reads_the_context(toy_language, tmp_path, run_command):
    """Without the context the AUC less each word's mean logit is 0.5, whatever was learned."""
    local, output = train(run_command, toy_language, tmp_path, *RECIPE)
    assert local["valid_disc_auc_context"] > 0.75
    assert local["valid_disc_recall"] > 0.1
    assert "have collapsed" not in output


def test_a_collapse_is_told_once_with_its_remedy(toy_language, tmp_path, run_command):
    """All of the rate at once, without a start and without bias correction."""
    options = ("--lr", "3e-2", "--warmup-updates", 0, "--max-update", 40)
    options += ("--validate-interval-updates", 20)
    _, output = train(run_command, toy_language, tmp_path, *options)
    means = re.findall(r'"valid_feature_mean": "([\d.]+)"', output)
    assert len(means) == 2 and all(float(mean) > 0.9 for mean in means)
    (warning,) = [line for line in output.splitlines() if "have collapsed" in line]
    assert "--weight-init local" in warning and "feature_mean" in warning
