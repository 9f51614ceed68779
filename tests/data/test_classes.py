"""--num-classes against the labels of a task."""

from types import SimpleNamespace

import pytest
from fairseq.data import Dictionary

from fairseq_electra.data.classes import check_classes


def make_task(classes, regression=False):
    """As fairseq's sentence_prediction is: its label dictionary ends with filling and <mask>."""
    dictionary = Dictionary()
    for symbol in ("no", "perhaps", "yes", "madeupword0000", "<mask>"):
        dictionary.add_symbol(symbol)
    cfg = SimpleNamespace(num_classes=classes, regression_target=regression, data="task-bin")
    return SimpleNamespace(cfg=cfg, label_dictionary=dictionary)


def test_a_head_with_too_few_outputs_is_refused_with_the_file():
    expected = r"--num-classes 2, but task-bin/label/dict.txt has 3 labels: no, perhaps, yes$"
    with pytest.raises(ValueError, match=expected):
        check_classes(make_task(2))


@pytest.mark.parametrize("task", [make_task(3), make_task(4), make_task(1, regression=True)])
def test_heads_that_fit(task):
    check_classes(task)


def test_tasks_without_labels():
    check_classes(SimpleNamespace(source_dictionary=None))
