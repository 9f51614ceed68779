"""CoNLL files to the folder that --task electra_tagging reads."""

import pytest

from fairseq_electra.__main__ import main
from fairseq_electra.data.conll import read_conll
from fairseq_electra.tasks.electra_tagging import ElectraTaggingTask, ElectraTaggingTaskConfig
from tagging_bin import make_tokenizer

TRAIN = "-DOCSTART- X O\n\nw1 X B-A\nw12 X I-A\n\n\nw3 Y O\n"
VALID = "w4 Y O\n\nw5 X I-C\n"


@pytest.fixture
def folders(tmp_path):
    """A data-bin with a tokenizer, and a folder of CoNLL files."""
    (tmp_path / "bin").mkdir()
    make_tokenizer().save(tmp_path / "bin")
    (tmp_path / "conll").mkdir()
    (tmp_path / "conll" / "train.txt").write_text(TRAIN)
    (tmp_path / "conll" / "dev.txt").write_text(VALID)
    return tmp_path


@pytest.fixture
def prepare(folders, capsys):
    """Run the script; returns what it printed, or the message it ended with."""

    def run(*options) -> str:
        names = [str(folders / name) for name in ("out", "bin", "conll")]
        try:
            main(["prepare-tagging", *options, *names])
        except SystemExit as stop:
            return str(stop.code)
        return capsys.readouterr().out

    return run


def load_task(folder):
    return ElectraTaggingTask.setup_task(ElectraTaggingTaskConfig(data=str(folder)))


def test_the_task_reads_it(folders, prepare):
    printed = prepare()
    assert "train 2 (train.txt), valid 2 (dev.txt) sentences; 4 tags, I-C not in train" in printed
    task = load_task(folders / "out")
    assert task.labels == ["B-A", "I-A", "I-C", "O"]
    targets = {}
    for split in ("train", "valid"):
        task.load_dataset(split)
        targets[split] = [example.target.tolist() for example in task.datasets[split].examples]
    ignored = -100
    assert targets == {
        "train": [[ignored, 0, 1, ignored, ignored], [ignored, 3, ignored]],
        "valid": [[ignored, 3, ignored], [ignored, 2, ignored]],
    }


def test_other_columns(folders, prepare):
    assert "2 tags" in prepare("--tag-column", "1")
    assert load_task(folders / "out").labels == ["X", "Y"]


def test_every_tenth_sentence_is_held_out(folders, prepare):
    (folders / "conll" / "dev.txt").unlink()
    assert "has 2 sentences, too few to hold out every 10th: give a valid.txt" in prepare()
    (folders / "conll" / "train.txt").write_text("".join(f"s{n} O\n\n" for n in range(1, 26)))
    assert "train 23 (train.txt), valid 2 (every 10th of train.txt)" in prepare()
    words = {
        split: [sentence.words[0] for sentence in read_conll(folders / "out" / f"{split}.conll")]
        for split in ("train", "valid")
    }
    assert words["valid"] == ["s10", "s20"]
    assert words["train"] == [f"s{n}" for n in range(1, 26) if n not in (10, 20)]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("train.txt", "w1 X O\nw2 O\n"), "train.txt, line 2: has 2 columns, line 1 has 3"),
        (("test.txt", "\n\n"), "test.txt has no words"),
        (("valid.txt", VALID), "has valid.txt and dev.txt: keep one"),
    ],
)
def test_bad_files_are_named_and_nothing_is_made(folders, prepare, change, complaint):
    name, content = change
    (folders / "conll" / name).write_text(content)
    before = sorted(folders.iterdir())
    assert complaint in prepare()
    assert sorted(folders.iterdir()) == before


def test_missing_files_and_folders_are_named(folders, prepare):
    (folders / "conll" / "train.txt").unlink()
    assert "train.txt cannot be read" in prepare()
    (folders / "bin" / "tokenizer_info.json").unlink()
    assert "holds no tokenizer" in prepare()
    (folders / "out").mkdir()
    (folders / "out" / "mine").write_text("mine")
    assert "exists already" in prepare()
