"""Labelled text to the layout that fairseq's sentence_prediction task reads."""

import pytest
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fairseq_electra.__main__ import main
from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer
from fairseq_electra.text import prepare_task

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
def prepare(folders, capsys):
    """Run the script; returns what it printed, or the message it ended with."""

    def run(*options) -> str:
        names = [str(folders / name) for name in ("out", "bin", "tsv")]
        try:
            main(["prepare-task", *options, *names])
        except SystemExit as stop:
            return str(stop.code)
        return capsys.readouterr().out

    return run


def load_task(folder, classes=3, regression=False):
    cfg = OmegaConf.structured(SentencePredictionConfig)
    cfg.data, cfg.num_classes, cfg.init_token, cfg.no_shuffle = str(folder), classes, 0, True
    cfg.regression_target, cfg.classification_head_name, cfg.seed = regression, "head", 1
    return SentencePredictionTask.setup_task(cfg)


def test_fairseqs_task_reads_it(folders, prepare):
    printed = prepare("--max-tokens", "5")
    assert "train 4, valid 2 texts, 1 cut short, 1 with an empty text" in printed
    assert "--num-classes 3" in printed
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


def write_rows(folder, **rows):
    for split, lines in rows.items():
        (folder / "tsv" / f"{split}.tsv").write_text("".join(f"{line}\n" for line in lines))


def read_items(folder, split, **options):
    task = load_task(folder, **options)
    task.load_dataset(split)
    return task, [task.datasets[split][i] for i in range(len(task.datasets[split]))]


def test_fairseq_joins_pairs_as_the_authors_do(folders, prepare):
    write_rows(folders, train=["b\tone two\ttwo\t", "a\ttwo\t"], valid=["a\tone\tthree"])
    assert "train 2, valid 1 texts, 0 cut short, 1 with an empty text" in prepare("--pairs")
    task, items = read_items(folders / "out", "train", classes=2)
    names = [[task.source_dictionary[i] for i in item["net_input.src_tokens"]] for item in items]
    assert names[0] == ["<s>", "one", "two", "</s>", "two", "</s>"]
    assert names[1] == ["<s>", "two", "</s>", "<unk>", "</s>"]


def test_numbers_to_regress_on(folders, prepare):
    write_rows(folders, train=["0.25\tone", "-3e1\ttwo"], valid=["1\tone"])
    assert "--regression-target --num-classes 1" in prepare("--regression")
    _, items = read_items(folders / "out", "train", classes=1, regression=True)
    assert [item["target"] for item in items] == [[0.25], [-30.0]]


@pytest.mark.parametrize("label", ["high", "nan", "inf", "1,5"])
def test_text_in_a_regression_is_named(folders, prepare, label):
    write_rows(folders, train=["0.5\tone"], valid=["1\tone", f"{label}\ttwo"])
    assert f"valid.tsv, line 2: '{label}' is not a number" in prepare("--regression")
    assert not (folders / "out").exists()


@pytest.mark.parametrize("line", ["a\tone", "a\tone\ttwo\tthree", "one"])
def test_what_is_no_pair_is_named(folders, prepare, line):
    write_rows(folders, train=["a\tone\ttwo", line], valid=["a\tone\ttwo"])
    assert "train.tsv, line 2: not a label" in prepare("--pairs")


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 12))
def test_the_longer_sentence_is_cut(first, second, room):
    """Piece by piece as the authors' loop: the first only while it is longer."""
    pieces = [list("a" * first), list("b" * second)]
    expected = [list(part) for part in pieces]
    while len(expected[0]) + len(expected[1]) > room - 1:
        expected[0 if len(expected[0]) > len(expected[1]) else 1].pop()
    assert prepare_task.cut_pieces(pieces, room) == expected
    assert prepare_task.cut_pieces(pieces[:1], room) == [pieces[0][:room]]


def test_cutting_by_hand():
    assert prepare_task.cut_pieces([list("abcde"), list("xy")], 5) == [list("ab"), list("xy")]
    assert prepare_task.cut_pieces([list("abc"), list("xyz")], 6) == [list("abc"), list("xy")]


@pytest.mark.parametrize(
    ("split", "line", "complaint"),
    [
        ("train", "no tab", "train.tsv, line 2: not a label"),
        ("train", "two words\ttext", "train.tsv, line 2: not a label"),
        ("valid", "d\ttext", "valid.tsv, line 2: "),
        ("valid", "d\ttext", "train.tsv has no label 'd'"),
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
