"""Labels of fairseq's sentence tasks: against the head, the texts and what they may be."""

from types import SimpleNamespace

import pytest
from fairseq.data import Dictionary
from fairseq.tasks.sentence_prediction import SentencePredictionTask
from fairseq.tasks.sentence_ranking import SentenceRankingTask

from fairseq_electra.data.labels import check_labels
from fairseq_electra.text.data_bin import binarize
from tiny import make_dictionary

LABELS = ("no", "perhaps", "yes")


def write(folder, name, lines, words):
    """One split, valid, as fairseq-preprocess makes it."""
    pieces = folder / f"{name}.pieces"
    pieces.mkdir()
    (pieces / "valid").write_text("".join(f"{line}\n" for line in lines))
    (pieces / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
    binarize(pieces, pieces / "dict.txt", folder / name, workers=1)


@pytest.fixture
def data(tmp_path):
    """Three texts."""
    write(tmp_path, "input0", ["w1 w2", "w3", "w4"], make_dictionary().symbols[4:-1])
    return tmp_path


def make_prediction(data, classes, regression=False):
    """Its label dictionary ends with filling and <mask>, as fairseq's does."""
    dictionary = Dictionary()
    for symbol in (*LABELS, "madeupword0000", "<mask>"):
        dictionary.add_symbol(symbol)
    task = SentencePredictionTask.__new__(SentencePredictionTask)
    task.cfg = SimpleNamespace(num_classes=classes, regression_target=regression, data=str(data))
    task._label_dictionary = dictionary
    return task


def make_ranking(data, options):
    task = SentenceRankingTask.__new__(SentenceRankingTask)
    task.args = SimpleNamespace(num_classes=options, data=str(data))
    return task


def write_lines(data, content: bytes):
    (data / "label").mkdir()
    (data / "label" / "valid.label").write_bytes(content)


@pytest.mark.parametrize(
    "task",
    [make_prediction("none", 3), make_prediction("none", 4), make_prediction("none", 1, True)],
)
def test_heads_that_fit_and_no_labels(task):
    check_labels(task)


def test_a_head_with_too_few_outputs_is_refused_with_the_file():
    expected = r"--num-classes 2, but task-bin/label/dict.txt has 3 labels: no, perhaps, yes$"
    with pytest.raises(ValueError, match=expected):
        check_labels(make_prediction("task-bin", 2))


def test_tasks_without_labels():
    check_labels(SimpleNamespace(source_dictionary=None))


def test_labels_that_fit(data):
    write(data, "label", ["no", "yes", "no"], LABELS)
    check_labels(make_prediction(data, 3))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["no", "maybe", "no"], r"valid\.bin, entry 1: '<unk>' is not one label of .*dict\.txt"),
        (["no", "yes no", "no"], r"valid\.bin, entry 1: 'yes no' is not one label"),
        (["no", "yes", ""], r"valid\.bin, entry 2: '' is not one label"),
        (["no", "yes"], r"valid\.idx has 2 labels, .*input0/valid has 3 texts"),
    ],
)
def test_labels_that_do_not(data, labels, message):
    write(data, "label", labels, LABELS)
    with pytest.raises(ValueError, match=message):
        check_labels(make_prediction(data, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1.5\nhigh\n2\n", r"valid\.label, line 2: not a number: 'high'"),
        (b"1.5\nnan\n2\n", r"valid\.label, line 2: not a number: 'nan'"),
        (b"1.5\n2 3\n2\n", r"valid\.label, line 2: 2 numbers, where --num-classes is 1: '2 3'"),
        (b"1.5\n\n2\n", r"valid\.label, line 2: 0 numbers"),
        (b"1.5\n\xff\n2\n", r"valid\.label is not UTF-8"),
        (b"1.5\n2\n", r"valid\.label has 2 labels, .*input0/valid has 3 texts"),
    ],
)
def test_targets_that_are_none(data, content, message):
    write_lines(data, content)
    with pytest.raises(ValueError, match=message):
        check_labels(make_prediction(data, 1, regression=True))


def test_two_targets_a_text(data):
    write_lines(data, b"1.5 2\r\n-3 4e-1\r\n0 0\r\n")
    check_labels(make_prediction(data, 2, regression=True))


@pytest.mark.parametrize("label", ["2", "-1", "0.5", "first", ""])
def test_options_that_are_none(data, label):
    write_lines(data, f"0\n1\n{label}\n".encode())
    with pytest.raises(ValueError, match=r"valid\.label, line 3: not the number of an option, 0"):
        check_labels(make_ranking(data, 2))


def test_options(data):
    write_lines(data, b"0\n1\n1\n")
    check_labels(make_ranking(data, 2))
