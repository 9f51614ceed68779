"""Writes tiny files in the layouts of GLUE's own, for tests."""

from pathlib import Path
from typing import Optional, Sequence, Tuple

Row = Tuple[str, Tuple[str, ...]]  # label, one or two texts

# {i}: row number, {a} {b}: texts, {y}: label
PARSES = "p\tp\tp\tp"
LABELLED = {
    "CoLA": (None, "gj04\t{y}\t\t{a}"),
    "SST-2": ("sentence\tlabel", "{a} \t{y}"),
    "MRPC": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{y}\t10\t11\t{a}\t{b}"),
    "STS-B": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "{i}\tg\tf\t2012\t0\tnone\tnone\t{a}\t{b}\t{y}",
    ),
    "RTE": ("index\tsentence1\tsentence2\tlabel", "{i}\t{a}\t{b}\t{y}"),
    "QNLI": ("index\tquestion\tsentence\tlabel", "{i}\t{a}\t{b}\t{y}"),
    "QQP": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "{i}\t1\t2\t{a}\t{b}\t{y}",
    ),
    "MNLI": (
        "index\tpromptID\tpairID\tgenre\tp1\tp2\tp3\tp4\tsentence1\tsentence2\tlabel1\tgold_label",
        "{i}\t1\t2\tg\t" + PARSES + "\t{a}\t{b}\tx\t{y}",
    ),
}
UNLABELLED = {
    "CoLA": ("index\tsentence", "{i}\t{a}"),
    "SST-2": ("index\tsentence", "{i}\t{a} "),
    "MRPC": ("index\t#1 ID\t#2 ID\t#1 String\t#2 String", "{i}\t10\t11\t{a}\t{b}"),
    "STS-B": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2",
        "{i}\tg\tf\t2012\t0\tnone\tnone\t{a}\t{b}",
    ),
    "RTE": ("index\tsentence1\tsentence2", "{i}\t{a}\t{b}"),
    "QNLI": ("index\tquestion\tsentence", "{i}\t{a}\t{b}"),
    "QQP": ("id\tquestion1\tquestion2", "{i}\t{a}\t{b}"),
    "MNLI": (
        "index\tpromptID\tpairID\tgenre\tp1\tp2\tp3\tp4\tsentence1\tsentence2",
        "{i}\t1\t2\tg\t" + PARSES + "\t{a}\t{b}",
    ),
}


def write_file(path: Path, layout: Tuple[Optional[str], str], rows: Sequence[Row]) -> None:
    """One file of rows, with a header where the layout has one."""
    header, form = layout
    lines = [] if header is None else [header]
    for number, (label, texts) in enumerate(rows):
        values = {"i": number, "y": label, "a": texts[0], "b": texts[-1]}
        lines.append(form.format(**values))
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def write_task(
    folder: Path,
    name: str,
    train: Sequence[Row],
    dev: Sequence[Row],
    test: Optional[Sequence[Row]] = None,
) -> Path:
    """train.tsv, dev.tsv (of MNLI both) and perhaps test.tsv of one task; its folder."""
    folder = folder / name
    folder.mkdir()
    ends = ("_matched", "_mismatched") if name == "MNLI" else ("",)
    write_file(folder / "train.tsv", LABELLED[name], train)
    for end in ends:
        write_file(folder / f"dev{end}.tsv", LABELLED[name], dev)
        if test is not None:
            write_file(folder / f"test{end}.tsv", UNLABELLED[name], test)
    return folder
