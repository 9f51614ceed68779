"""Whether a head has an output for each label of a task's data."""

from pathlib import Path

FILLING = "madeupword"  # fairseq pads its dictionaries with these


def check_classes(task) -> None:
    """Compare --num-classes with the labels of fairseq's sentence_prediction task, if it is one.

    Raises:
        ValueError: if labels have no output, where fairseq fails in its loss, on a GPU without a
            reason.
    """
    cfg = getattr(task, "cfg", None)
    classes = getattr(cfg, "num_classes", None)
    if classes is None or cfg.regression_target or not hasattr(task, "label_dictionary"):
        return
    dictionary = task.label_dictionary
    symbols = dictionary.symbols[dictionary.nspecial :]
    labels = [s for s in symbols if s != "<mask>" and not s.startswith(FILLING)]
    if classes < len(labels):
        raise ValueError(
            f"--num-classes {classes}, but {Path(cfg.data) / 'label' / 'dict.txt'} has "
            f"{len(labels)} labels: {', '.join(labels[:5])}{' ...' if len(labels) > 5 else ''}"
        )
