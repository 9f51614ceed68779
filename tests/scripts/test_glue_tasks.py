"""GLUE's own layouts: columns, labels, broken rows, doubled pairs."""

import pytest

import glue_files
from scripts.glue.tasks import TASKS, as_training_data, find_tasks, read_split, read_task

TEXTS = {
    "CoLA": ("the cat saw .",),
    "SST-2": ("a dog",),
    "MRPC": ('" the cat " saw', "a dog"),
    "STS-B": ("the cat", "a dog"),
    "RTE": ("the cat", "a dog"),
    "QNLI": ("the cat", "a dog"),
    "QQP": ("the cat", "a dog"),
    "MNLI": ("the cat", "a dog"),
}


def write(folder, name, labels, **options):
    rows = [(label, TEXTS[name]) for label in labels]
    return glue_files.write_task(folder, name, train=rows, dev=rows[:2], test=rows[:1], **options)


@pytest.mark.parametrize("name", TASKS)
def test_every_layout_is_read(tmp_path, name):
    labels = list(TASKS[name].labels or ("0.000", "2.500", "5.000"))
    write(tmp_path, name, labels)
    tables, skipped = read_task(tmp_path, TASKS[name])
    assert skipped == {}
    assert tables["train"].labels == labels
    assert tables["valid"].labels == labels[:2]
    assert tables["test"].labels == []
    splits = {"train", "valid", "test", *(("valid1", "test1") if name == "MNLI" else ())}
    assert set(tables) == splits
    for table in tables.values():
        assert table.texts == [TEXTS[name]] * len(table.texts)
    assert tables["train"].lines[0] == (1 if name == "CoLA" else 2)


def test_all_are_those_that_are_there(tmp_path):
    write(tmp_path, "RTE", TASKS["RTE"].labels)
    write(tmp_path, "CoLA", TASKS["CoLA"].labels)
    assert [task.name for task in find_tasks(tmp_path, "all")] == ["CoLA", "RTE"]
    assert [task.name for task in find_tasks(tmp_path, "RTE")] == ["RTE"]
    with pytest.raises(ValueError, match=r"TASK is one of CoLA, .*or all, not 'Cola'"):
        find_tasks(tmp_path, "Cola")
    with pytest.raises(ValueError, match=r"no .*QQP/train.tsv: set GLUE_DIR"):
        find_tasks(tmp_path, "QQP")
    with pytest.raises(ValueError, match=r"no .*CoLA/train.tsv: set GLUE_DIR"):
        find_tasks(tmp_path / "RTE", "all")


def test_broken_rows_are_counted_where_labels_are_and_refused_in_a_test_set(tmp_path):
    folder = write(tmp_path, "QQP", ["0", "1"])
    with (folder / "train.tsv").open("a") as file:
        file.write("7\t8\t9\n\n9\t1\t2\tthe cat\ta dog\t1\textra\n9\t1\t2\tthe cat\ta dog\t1\n")
    table, skipped = read_split(folder / "train.tsv", TASKS["QQP"], labelled=True)
    assert skipped == [4, 6]
    assert table.labels == ["0", "1", "1"]
    assert table.lines == [2, 3, 7]
    with (folder / "test.tsv").open("a") as file:
        file.write("7\tthe cat\n")
    with pytest.raises(ValueError, match=r"test.tsv, line 3: not 3 columns"):
        read_split(folder / "test.tsv", TASKS["QQP"], labelled=False)


@pytest.mark.parametrize(
    ("name", "label", "complaint"),
    [
        ("RTE", "maybe", "dev.tsv, line 3: label is none of entailment, not_entailment: 'maybe'"),
        ("STS-B", "much", "dev.tsv, line 3: 'much' is not a number from 0 to 5"),
        ("STS-B", "5.2", "dev.tsv, line 3: '5.2' is not a number from 0 to 5"),
        ("CoLA", "2", "dev.tsv, line 2: label is none of 0, 1: '2'"),
    ],
)
def test_a_label_that_is_none_is_named_with_its_line(tmp_path, name, label, complaint):
    good = (TASKS[name].labels or ["1.0"])[0]
    rows = [(good, TEXTS[name]), (label, TEXTS[name])]
    glue_files.write_task(tmp_path, name, train=rows[:1], dev=rows)
    with pytest.raises(ValueError) as error:
        read_task(tmp_path, TASKS[name])
    assert complaint in str(error.value)


def test_another_tasks_file_is_named(tmp_path):
    folder = write(tmp_path, "RTE", TASKS["RTE"].labels)
    with pytest.raises(ValueError, match=r"train.tsv, line 1: no column 'question' in the header"):
        read_split(folder / "train.tsv", TASKS["QNLI"], labelled=True)


def test_text_that_is_not_utf8_is_named(tmp_path):
    folder = write(tmp_path, "SST-2", ["0", "1"])
    with (folder / "dev.tsv").open("ab") as file:
        file.write(b"caf\xe9\t1\n")
    with pytest.raises(ValueError, match=r"dev.tsv, line 4, byte 4: not UTF-8"):
        read_task(tmp_path, TASKS["SST-2"])


def test_an_empty_dev_set_is_named(tmp_path):
    folder = write(tmp_path, "SST-2", ["0", "1"])
    (folder / "dev.tsv").write_text("sentence\tlabel\n")
    with pytest.raises(ValueError, match=r"dev.tsv: no rows"):
        read_task(tmp_path, TASKS["SST-2"])


def test_symmetric_pairs_are_doubled_and_swapped_in_training_alone(tmp_path):
    write(tmp_path, "STS-B", ["0.000", "2.500", "5.000"])
    tables, _ = read_task(tmp_path, TASKS["STS-B"])
    made = as_training_data(tables, TASKS["STS-B"])
    assert made["train"].texts == [("the cat", "a dog")] * 3 + [("a dog", "the cat")] * 3
    assert made["train"].labels == ["0", "0.5", "1"] * 2
    assert made["valid"].texts == [("the cat", "a dog")] * 2
    assert made["valid"].labels == ["0", "0.5"]
    assert tables["train"].labels == ["0.000", "2.500", "5.000"]


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"MRPC", "STS-B"}))
def test_other_tasks_are_left_as_they_are(tmp_path, name):
    write(tmp_path, name, TASKS[name].labels)
    tables, _ = read_task(tmp_path, TASKS[name])
    assert as_training_data(tables, TASKS[name]) == tables
