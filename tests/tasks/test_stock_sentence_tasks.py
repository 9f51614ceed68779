"""fairseq's own sentence_prediction and sentence_ranking on a pre-training checkpoint."""

import random
import sys

import pytest

from fairseq_electra.hub.predict_sentences import load_predictor
from fairseq_electra.text.data_bin import binarize
from tiny import TINY_OPTIONS, USER_DIR, make_dictionary

WORDS = [f"w{number}" for number in range(12)]


@pytest.fixture(scope="module")
def checkpoint(data_bin, train_electra, tmp_path_factory):
    """Pre-trained for two updates, generator included."""
    folder = tmp_path_factory.mktemp("pretrained")
    train_electra(data_bin, folder, "--max-update", 2)
    return folder / "checkpoint_last.pt"


def write_input(folder, name, texts):
    """texts: {split: lines} -> folder/name, binarized."""
    pieces = folder / f"{name}.pieces"
    pieces.mkdir()
    for split, lines in texts.items():
        (pieces / split).write_text("".join(f"{line}\n" for line in lines))
    words = make_dictionary().symbols[4:-1]
    (pieces / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
    binarize(pieces, pieces / "dict.txt", folder / name, workers=1)


def finetune(run_command, data, save_dir, checkpoint, *options, check=True):
    return run_command(
        *(sys.executable, "-m", "fairseq_cli.train", data, "--user-dir", USER_DIR, "--cpu"),
        *("--arch", "electra_tiny", *TINY_OPTIONS, "--init-token", 0),
        *("--restore-file", checkpoint, "--reset-optimizer", "--reset-dataloader"),
        *("--reset-meters", "--reset-lr-scheduler", "--layerwise-lr-decay", 0.8),
        *("--optimizer", "electra_adam", "--lr-scheduler", "electra_decay", "--lr", "3e-3"),
        *("--warmup-updates", 2, "--max-update", 40, "--batch-size", 16, "--num-workers", 0),
        *("--required-batch-size-multiple", 1, "--no-epoch-checkpoints", "--log-format", "simple"),
        *("--save-dir", save_dir, *options),
        check=check,
    )


def last_metric(output, name):
    """The last held-out value that fairseq printed."""
    line = [line for line in output.splitlines() if "| valid | epoch" in line][-1]
    return float(line.split(f"| {name} ")[1].split()[0])


def test_ranking(run_command, checkpoint, tmp_path):
    """Of two options the one whose word is in the question is right."""
    rng = random.Random(2)
    inputs, labels = {f"input{i}": {} for i in range(3)}, {}
    for split, count in (("train", 160), ("valid", 24)):
        rows = [(rng.sample(WORDS[:2], 2), rng.randrange(2)) for _ in range(count)]
        inputs["input0"][split] = [f"{words[right]} {words[right]}" for words, right in rows]
        for option in (0, 1):
            inputs[f"input{option + 1}"][split] = [words[option] for words, _ in rows]
        labels[split] = [right for _, right in rows]
    for name, texts in inputs.items():
        write_input(tmp_path, name, texts)
    (tmp_path / "label").mkdir()
    for split, values in labels.items():
        (tmp_path / "label" / f"{split}.label").write_text("".join(f"{v}\n" for v in values))
    done = finetune(
        *(run_command, tmp_path, tmp_path / "save", checkpoint, "--task", "sentence_ranking"),
        *("--criterion", "sentence_ranking", "--num-classes", 2),
    )
    assert "not loaded (pre-training only)" in done.output
    assert last_metric(done.output, "accuracy") > 90


def write_regression(folder, count, labels_of):
    """Texts whose target is the share of w0 in them."""
    rng = random.Random(3)
    texts, labels = {}, {}
    for split, number in (("train", 10 * count), ("valid", count)):
        rows = [[rng.choice(WORDS[:2]) for _ in range(4)] for _ in range(number)]
        texts[split] = [" ".join(row) for row in rows]
        labels[split] = [labels_of(row) for row in rows]
    write_input(folder, "input0", texts)
    return labels


def test_regression_reports_correlations(run_command, checkpoint, tmp_path):
    labels = write_regression(tmp_path, 20, lambda row: row.count("w0") / 4)
    (tmp_path / "label").mkdir()
    for split, values in labels.items():
        (tmp_path / "label" / f"{split}.label").write_text("".join(f"{v}\n" for v in values))
    done = finetune(
        *(run_command, tmp_path, tmp_path / "save", checkpoint, "--task", "sentence_prediction"),
        *("--criterion", "sentence_prediction", "--num-classes", 1, "--regression-target"),
        "--report-pearson-and-spearman",
    )
    for name in ("pearson", "spearman", "pearson_and_spearman"):
        assert last_metric(done.output, name) > 80, name


def test_classes_report_what_is_asked_and_too_few_are_refused(run_command, checkpoint, tmp_path):
    labels = write_regression(tmp_path, 20, lambda row: int(row[0] == "w0"))
    pieces = tmp_path / "label.pieces"
    pieces.mkdir()
    for split, values in labels.items():
        (pieces / split).write_text("".join(f"{v}\n" for v in values))
    (pieces / "dict.txt").write_text("0 1\n1 1\n")
    binarize(pieces, pieces / "dict.txt", tmp_path / "label", workers=1)
    task = ("--task", "sentence_prediction", "--criterion", "sentence_prediction")
    reports = ("--report-mcc", "--report-acc-and-f1")
    done = finetune(
        *(run_command, tmp_path, tmp_path / "save", checkpoint, *task, "--num-classes", 2, *reports)
    )
    assert last_metric(done.output, "accuracy") > 80
    assert last_metric(done.output, "f1") > 80
    assert last_metric(done.output, "mcc") > 60
    done = finetune(
        *(run_command, tmp_path, tmp_path / "no", checkpoint, *task, "--num-classes", 1),
        check=False,
    )
    assert done.returncode != 0
    assert f"--num-classes 1, but {tmp_path / 'label' / 'dict.txt'} has 2 labels" in done.output


def test_predicting_with_a_checkpoint_of_pre_training_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="was trained with --task electra, not sentence"):
        load_predictor(checkpoint, tmp_path)
    with pytest.raises(ValueError, match=r"gone\.pt: no such checkpoint"):
        load_predictor(tmp_path / "gone.pt", tmp_path)
