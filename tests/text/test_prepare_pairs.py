"""Pairs of texts to the layout that fairseq's translation task reads."""

import pytest
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import OmegaConf

from fairseq_electra.__main__ import main
from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer, load_tokenizer
from fairseq_electra.text import prepare_pairs

ROWS = {
    "train": ["one two two\tone two", "", "three <mask>\t\x01", "two\ttwo three one"],
    "valid": ["three\tone"],
}


@pytest.fixture
def folders(tmp_path):
    """A data-bin with a tokenizer, and a folder with pairs."""
    (tmp_path / "bin").mkdir()
    words = [*BERT_SPECIALS, "one", "two", "three", "<", ">", "mask"]
    WordPieceTokenizer("\n".join(words).encode(), cased=False).save(tmp_path / "bin")
    (tmp_path / "tsv").mkdir()
    for split, rows in ROWS.items():
        (tmp_path / "tsv" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.fixture
def prepare(folders, capsys):
    """Run the command; returns what it printed, or the message it ended with."""

    def run() -> str:
        try:
            main(["prepare-pairs", *(str(folders / name) for name in ("out", "bin", "tsv"))])
        except SystemExit as stop:
            return str(stop.code)
        return capsys.readouterr().out

    return run


def read_pairs(folder):
    """The pairs of each split as fairseq's task gives them."""
    cfg = TranslationConfig(data=str(folder), train_subset="train", dataset_impl=None)
    cfg.required_seq_len_multiple = 1
    task = TranslationTask.setup_task(OmegaConf.structured(cfg))
    names = task.source_dictionary
    assert names == task.target_dictionary and "<mask>" not in names.symbols
    found = {}
    for split in ROWS:
        task.load_dataset(split)
        items = [task.dataset(split)[i] for i in range(len(task.dataset(split)))]
        found[split] = [(names.string(i["source"]), names.string(i["target"])) for i in items]
    return found


@pytest.mark.parametrize("chunk", [1, 10])
def test_fairseq_s_task_reads_it(folders, prepare, monkeypatch, chunk):
    monkeypatch.setattr(prepare_pairs, "CHUNK", chunk)
    printed = prepare()
    assert "train 3 pairs, at most 4 pieces of source and 3 of target; valid 1 pairs" in printed
    assert read_pairs(folders / "out") == {
        "train": [
            ("one two two", "one two"),
            ("three < mask >", "<unk>"),
            ("two", "two three one"),
        ],
        "valid": [("three", "one")],
    }
    assert load_tokenizer(folders / "out").kind == "wordpiece"


@pytest.mark.parametrize("line", ["one", "one\ttwo\tthree", "\tone", "one\t "])
def test_what_is_no_pair_is_named_and_nothing_is_made(folders, prepare, line):
    (folders / "tsv" / "train.tsv").write_text(f"one\ttwo\n{line}\n")
    before = sorted(folders.iterdir())
    assert "train.tsv, line 2: not a source, a tab and a target" in prepare()
    assert sorted(folders.iterdir()) == before


def test_a_split_that_is_missing_or_empty_is_named(folders, prepare):
    (folders / "tsv" / "valid.tsv").write_text("\n\n")
    assert "valid.tsv holds no pairs" in prepare()
    (folders / "tsv" / "valid.tsv").unlink()
    assert "valid.tsv cannot be read" in prepare()
