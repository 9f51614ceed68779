"""SQuAD's files to the folder that the task reads, and the number of its windows."""

import json

import pytest

from fairseq_electra.__main__ import main
from fairseq_electra.tasks.electra_answers import ElectraAnswersTask, ElectraAnswersTaskConfig
from fairseq_electra.text.finetune_data import count_windows
from squad_bin import list_qas, make_squad, make_tokenizer


@pytest.fixture
def folder(tmp_path):
    """A data-bin with a tokenizer, and three files."""
    (tmp_path / "bin").mkdir()
    make_tokenizer().save(tmp_path / "bin")
    for seed, name in enumerate(("train", "dev", "test")):
        (tmp_path / f"{name}.json").write_text(json.dumps(make_squad(6 + seed, seed, "v2.0")))
    return tmp_path


@pytest.fixture
def prepare(folder, capsys):
    """Run the script; returns what it printed, or the message it ended with."""

    def run(*files) -> str:
        names = ["out", "bin", *files]
        try:
            main(["prepare-squad", *(str(folder / n) for n in names)])
        except SystemExit as stop:
            return str(stop.code)
        return capsys.readouterr().out

    return run


def test_the_task_reads_it(folder, prepare):
    test = json.loads((folder / "test.json").read_text())
    for qa in list_qas(test):  # a test set may have no answers
        del qa["answers"], qa["is_impossible"]
    (folder / "test.json").write_text(json.dumps(test))
    printed = prepare("train.json", "dev.json", "test.json")
    assert "train.json: SQuAD 2.0, 6 questions, 6 windows, 2 questions are impossible\n" in printed
    assert "test.json: SQuAD 1.1, 8 questions, 8 windows\n" in printed
    out = folder / "out"
    for name, split in (("train", "train"), ("dev", "valid"), ("test", "test")):
        assert (out / f"{split}.json").read_bytes() == (folder / f"{name}.json").read_bytes()
    task = ElectraAnswersTask.setup_task(ElectraAnswersTaskConfig(data=str(out)))
    task.load_dataset("train")
    assert len(task.dataset("train")) == count_windows(out) == 6
    sizes = ["--tokens-per-sample", "16", "--lr", "1", "--max-query-length", "6"]
    shorter = count_windows(out, [*sizes, "--doc-stride", "2"])
    assert shorter > 8


def test_questions_that_cannot_be_learnt_from_are_reported(folder, prepare):
    train = json.loads((folder / "train.json").read_text())
    list_qas(train)[1]["answers"][0]["answer_start"] += 1
    (folder / "train.json").write_text(json.dumps(train))
    assert "5 questions, 5 windows, 2 questions are impossible; left out 1 questions (q0-1: " in (
        prepare("train.json", "dev.json")
    )


@pytest.mark.parametrize("name", ["train", "dev"])
def test_bad_files_are_named_and_nothing_is_made(folder, prepare, name):
    content = json.loads((folder / f"{name}.json").read_text())
    for qa in list_qas(content):
        qa["answers"], qa["is_impossible"] = [], False
    for text, complaint in (
        ("label\ttext", "is not JSON"),
        ("{}", "is not SQuAD's JSON: the file has no 'data'"),
        (json.dumps(content), "most questions cannot be learnt from"),
    ):
        (folder / f"{name}.json").write_text(text)
        before = sorted(folder.iterdir())
        printed = prepare("train.json", "dev.json")
        assert printed.startswith(f"fairseq-electra prepare-squad: {folder / name}.json")
        assert complaint in printed
        assert sorted(folder.iterdir()) == before


def test_a_folder_without_tokenizer_is_named(folder, prepare):
    (folder / "bin" / "tokenizer_info.json").unlink()
    assert "holds no tokenizer" in prepare("train.json", "dev.json")
