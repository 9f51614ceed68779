"""finetune_glue.sh on tiny files: fine-tune, predict, measure, resume, complain."""

import json
import random

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score

import glue_files
from commands import command_environment, run_script
from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer
from fairseq_electra.hub import model_path
from fairseq_electra.hub.predict_sentences import load_predictor, predict
from scripts.glue import run as finetune_glue

ANIMALS, TOOLS = ["cat", "dog", "bird", "fish"], ["saw", "axe", "nail", "drill"]


def make_rows(name, count, rng):
    """The second sentence tells: of animals entailment, a score for each animal in it."""
    rows = []
    for _ in range(count):
        kind = rng.choice([ANIMALS, TOOLS])
        first = " ".join(rng.choice(ANIMALS + TOOLS) for _ in range(4))
        words = [rng.choice(kind) for _ in range(5)]
        label = {"RTE": "entailment" if kind is ANIMALS else "not_entailment"}
        label["STS-B"] = f"{5.0 if kind is ANIMALS else 0.5:.3f}"
        rows.append((label[name], (first, " ".join(words))))
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tokenizer and two of GLUE's tasks."""
    folder = tmp_path_factory.mktemp("glue")
    (folder / "bin").mkdir()
    words = [*BERT_SPECIALS, *ANIMALS, *TOOLS]
    WordPieceTokenizer("\n".join(words).encode(), cased=False).save(folder / "bin")
    (folder / "files").mkdir()
    rng = random.Random(1)
    for name in ("RTE", "STS-B"):
        parts = {"train": 200, "dev": 40, "test": 7}
        rows = {part: make_rows(name, count, rng) for part, count in parts.items()}
        glue_files.write_task(folder / "files", name, **rows)
    with (folder / "files" / "RTE" / "train.tsv").open("a") as file:
        file.write("201\tcat\n")
    return folder


@pytest.fixture
def settings(folder, monkeypatch):
    """The environment of a user, with runs that take seconds."""
    for name, value in {
        **command_environment(),
        "GLUE_DIR": folder / "files",
        "DATA": folder / "bin",
        "SEEDS": "1",
        "EPOCHS": "4",
        "SIZE": "tiny",
    }.items():
        monkeypatch.setenv(name, str(value))
    return monkeypatch


@pytest.fixture
def finetune(folder, settings, capsys):
    """Run the script; what it printed, or the message it ended with."""

    def run(task, checkpoint="none", out="out", *options) -> str:
        try:
            finetune_glue.main([task, str(checkpoint), str(folder / out), *options])
        except SystemExit as stop:
            return str(stop.code)
        return capsys.readouterr().out

    return run


def read_predictions(path):
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert header == ["index", "prediction"]
    assert [row[0] for row in rows] == [str(number) for number in range(len(rows))]
    return [row[1] for row in rows]


def read_labels(path, column):
    return [line.split("\t")[column] for line in path.read_text().splitlines()[1:]]


def test_two_tasks_from_files_to_a_table(folder, finetune):
    printed = finetune("all")
    out, files = folder / "out", folder / "files"
    assert "RTE/train.tsv: skipped 1 broken rows, the first in line 202" in printed
    assert "STS-B: train 400, valid 40, test 7 texts, 0 cut short" in printed
    results = json.loads((out / "results.json").read_text())

    labels, guesses = read_labels(files / "RTE/dev.tsv", 3), out / "RTE/seed-1/dev/RTE.tsv"
    accuracy = 100 * accuracy_score(labels, read_predictions(guesses))
    assert results["RTE"]["accuracy"]["scores"] == pytest.approx([accuracy])
    assert accuracy > 90 > results["RTE"]["accuracy"]["majority"]
    assert f"| accuracy {accuracy:g} |" in last_validation(out / "RTE/seed-1")

    scores = list(map(float, read_labels(files / "STS-B/dev.tsv", 9)))
    guesses = list(map(float, read_predictions(out / "STS-B/seed-1/dev/STS-B.tsv")))
    spearman = results["STS-B"]["spearman"]["scores"][0]
    # the file has three digits, between which predictions may differ
    assert spearman == pytest.approx(100 * spearmanr(guesses, scores)[0], abs=2)
    assert spearman > 70
    assert abs(sum(guesses) - sum(scores)) / 40 < 1  # on the file's scale, not the head's

    assert set(read_predictions(out / "leaderboard/RTE.tsv")) <= {"entailment", "not_entailment"}
    assert len(read_predictions(out / "leaderboard/RTE.tsv")) == 7
    assert all(0 <= float(score) <= 5 for score in read_predictions(out / "leaderboard/STS-B.tsv"))


def last_validation(run_dir):
    return [
        line for line in (run_dir / "train.log").read_text().splitlines() if "| valid |" in line
    ][-1]


def test_what_is_done_is_not_redone_and_predicts_the_same(folder, finetune, settings):
    finetune("RTE")
    settings.setattr(finetune_glue, "train", None)  # would raise
    assert "| RTE | accuracy |" in finetune("RTE")
    run_dir = folder / "out/RTE/seed-1"
    predictor = load_predictor(run_dir / "checkpoint_last.pt", folder / "out/RTE/bin")
    assert predict(predictor, "valid") == read_predictions(run_dir / "dev/RTE.tsv")


@pytest.mark.campaign
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(folder, finetune):
    finetune("RTE")
    task_bin, part, whole = folder / "out/RTE/bin", folder / "part", folder / "out/RTE/seed-1"
    command = ("finetune.sh", task_bin, part, "none", "--seed", 1)
    run_script(*command, "--max-epoch", 2)
    run_script(*command)
    logs = (part / "train.log").read_text()
    assert logs.count("| valid | epoch 001") == 1
    assert logs.count("Loaded checkpoint") == 1
    models = [torch.load(path / "checkpoint_last.pt")["model"] for path in (part, whole)]
    for name, tensor in models[0].items():
        assert torch.equal(tensor, models[1][name]), name


def test_a_checkpoint_of_another_dictionary_is_explained(folder, finetune, settings, tmp_path):
    finetune("RTE")
    words = [*BERT_SPECIALS, *TOOLS, *ANIMALS]
    (tmp_path / "bin").mkdir()
    WordPieceTokenizer("\n".join(words).encode(), cased=False).save(tmp_path / "bin")
    settings.setenv("DATA", str(tmp_path / "bin"))
    message = finetune("RTE", folder / "out/RTE/seed-1/checkpoint_last.pt", "other")
    assert "the checkpoint was trained with another dictionary" in message
    assert "not the same ones in the same order" in message
    assert "\n" not in message


def test_wrong_words_are_named_before_any_work(folder, finetune, settings, tmp_path):
    assert "TASK is one of CoLA" in finetune("rte")
    assert f"{tmp_path / 'gone.pt'}: no such checkpoint" in finetune_without_data(
        finetune, settings, tmp_path / "gone.pt"
    )
    assert "set DATA to a data-bin" in finetune_without_data(finetune, settings, "none")
    settings.setenv("DATA", str(tmp_path))
    assert "tokenizer" in finetune("RTE", "none", "nothing")
    settings.setenv("DATA", str(folder / "bin"))
    gone = finetune("RTE", tmp_path / "gone.pt", "nothing")
    assert f"{tmp_path / 'gone.pt'}: no such checkpoint" in gone
    assert not (folder / "nothing").exists()  # what failed before it began claims no folder
    settings.setenv("SEEDS", "one")
    assert 'SEEDS are whole numbers, as "1 2 3", not "one"' in finetune("RTE")


def test_a_checkpoint_s_own_tokenizer_comes_first():
    packaged = model_path("electra_tiny_en")
    assert finetune_glue.find_data(str(packaged / "checkpoint.pt"), None) == packaged


def finetune_without_data(finetune, settings, checkpoint):
    settings.delenv("DATA", raising=False)
    return finetune("RTE", checkpoint, "nothing")


def test_another_checkpoints_folder_is_refused(folder, finetune):
    (folder / "mixed").mkdir()
    (folder / "mixed" / "start.json").write_text('{"checkpoint": "a.pt", "MODEL": "electra"}')
    message = finetune("RTE", "none", "mixed")
    assert "holds runs of checkpoint a.pt" in message
    assert "name another OUT_DIR" in message


def test_the_reason_of_a_failure():
    log = "one\n2026 | ERROR | x | why\nTraceback\nException: long\n\n"
    assert finetune_glue.explain_failure(log).endswith("why")
    assert finetune_glue.explain_failure("one\nlast line\n\n") == "last line"
    assert finetune_glue.explain_failure("") == "no output"
