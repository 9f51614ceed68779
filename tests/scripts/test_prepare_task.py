"""Labelled text to the layout that fairseq's sentence_prediction task reads."""

import sys

import pytest
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask
from omegaconf import OmegaConf

import prepare_task
from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer

ROWS = {
    "train": ["b\tone two", "a\ttwo", "c\tthree <mask> one", "a\tone one one one one one one"],
    "valid": ["c\ttwo three", "a\t\x01"],
}


@pytest.fixture
def folders(tmp_path):
    """A data-bin with a tokenizer, and a folder with labelled text."""
    (tmp_path / "bin").mkdir()
    words = [*BERT_SPECIALS, "one", "two", "three", "<", ">", "mask"]
    WordPieceTokenizer("\n".join(words).encode(), cased=False).save(tmp_path / "bin")
    (tmp_path / "tsv").mkdir()
    for split, rows in ROWS.items():
        (tmp_path / "tsv" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.fixture
def prepare(folders, monkeypatch, capsys):
    """Run the script; returns what it printed, or the message it ended with."""

    def run(*options) -> str:
        names = [str(folders / name) for name in ("out", "bin", "tsv")]
        monkeypatch.setattr(sys, "argv", ["prepare_task.sh", *options, *names])
        try:
            prepare_task.main()
        except SystemExit as stop:
            return str(stop.code)
        return capsys.readouterr().out

    return run


def load_task(folder, classes=3):
    cfg = OmegaConf.structured(SentencePredictionConfig)
    cfg.data, cfg.num_classes, cfg.init_token, cfg.no_shuffle = str(folder), classes, 0, True
    cfg.regression_target, cfg.classification_head_name, cfg.seed = False, "head", 1
    return SentencePredictionTask.setup_task(cfg)


def test_fairseqs_task_reads_it(folders, prepare):
    assert "train 4, valid 2 texts, 1 cut short; --num-classes 3" in prepare("--max-tokens", "5")
    task = load_task(folders / "out")
    names = task.source_dictionary
    texts, labels = {}, {}
    for split in ROWS:
        task.load_dataset(split)
        dataset = task.datasets[split]
        items = [dataset[i] for i in range(len(dataset))]
        texts[split] = [[names[i] for i in item["net_input.src_tokens"]] for item in items]
        labels[split] = [item["target"].tolist() for item in items]
    assert labels == {"train": [[1], [0], [2], [0]], "valid": [[2], [0]]}
    assert texts["train"][2] == ["<s>", "three", "<", "mask", ">", "one", "</s>"]
    assert texts["train"][3] == ["<s>", *["one"] * 5, "</s>"]
    assert texts["valid"] == [["<s>", "two", "three", "</s>"], ["<s>", "<unk>", "</s>"]]
    assert names.index("<mask>") == len(names) - 1


@pytest.mark.parametrize(
    ("split", "line", "complaint"),
    [
        ("train", "no tab", "train.tsv, line 2: not a label"),
        ("train", "two words\ttext", "train.tsv, line 2: not a label"),
        ("valid", "d\ttext", "has no label 'd'"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_made(folders, prepare, split, line, complaint):
    (folders / "tsv" / f"{split}.tsv").write_text(f"a\tone\n{line}\n")
    before = sorted(folders.iterdir())
    assert complaint in prepare()
    assert sorted(folders.iterdir()) == before


def test_a_missing_split_is_named(folders, prepare):
    (folders / "tsv" / "valid.tsv").unlink()
    assert "valid.tsv cannot be read" in prepare()


def test_a_data_bin_without_tokenizer_is_named(folders, prepare):
    (folders / "bin" / "tokenizer_info.json").unlink()
    assert "holds no tokenizer" in prepare()


def test_a_folder_that_is_there_is_kept(folders, prepare):
    prepare()
    before = (folders / "out" / "label" / "train.bin").read_bytes()
    assert "exists already" in prepare()
    assert (folders / "out" / "label" / "train.bin").read_bytes() == before
