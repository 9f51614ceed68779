"""A checkpoint of electra_tagging and a CoNLL file -> its lines with the predicted tags, a report.

tag.py is the command.
"""

import argparse
import sys
from pathlib import Path
from typing import List

import torch

from fairseq_electra.criterions.entity_counts import (
    are_entity_tags,
    count_entities,
    import_seqeval,
    score_entities,
)
from fairseq_electra.data.conll import Sentence, append_tags, parse_conll, read_lines
from fairseq_electra.data.tagging_dataset import IGNORED, TaggingDataset
from fairseq_electra.hub.finetuned_model import load_finetuned
from fairseq_electra.tasks.electra_tagging import HEAD

BATCH = 32  # examples


def predict(model, dataset: TaggingDataset, labels: List[str]) -> List[List[str]]:
    """The most likely tag of each word of each sentence."""
    device = next(model.parameters()).device
    predicted = {}
    for batch in dataset.batch_by_size(dataset.ordered_indices(), max_sentences=BATCH):
        sample = dataset.collater([dataset[index] for index in batch])
        tokens = sample["net_input"]["src_tokens"].to(device)
        with torch.inference_mode():
            logits, _ = model(tokens, classification_head_name=HEAD)
        best = logits.argmax(-1).cpu()  # (B, T)
        for index, row, target in zip(batch, best, sample["target"], strict=True):
            predicted[index] = [labels[number] for number in row[target.ne(IGNORED)].tolist()]
    return dataset.join_words(predicted)


def check_gold(sentences: List[Sentence], labels: List[str], path: Path) -> None:
    """ValueError if the model's tags mark entities and one of the file's cannot."""
    if not are_entity_tags(labels):
        return
    for sentence in sentences:
        for tag, line in zip(sentence.tags, sentence.lines):
            if not are_entity_tags([tag]):
                raise ValueError(
                    f"{path}, line {line}: {tag!r} is not a tag like the model's ({labels[0]}, "
                    "...): name their column with --tag-column, or say --tag-column none"
                )


def describe_dataset(dataset: TaggingDataset, sentences: List[Sentence]) -> str:
    """How much was tagged, and what was cut."""
    words = sum(len(sentence.words) for sentence in sentences)
    counts = dataset.counts
    notes = [
        f"{number} {what}"
        for number, what in (
            (counts.cut_sentences, "sentences cut into several examples"),
            (counts.cut_words, "words cut short"),
            (counts.unknown_words, "words without a piece"),
        )
        if number
    ]
    return ", ".join([f"{len(sentences)} sentences, {words} words", *notes])


def report(gold: List[List[str]], predicted: List[List[str]], has_entities: bool) -> str:
    """Accuracy over words, and seqeval's report on entities if the tags mark them."""
    pairs = [
        pair for ours, theirs in zip(predicted, gold, strict=True) for pair in zip(ours, theirs)
    ]
    accuracy = f"accuracy {sum(ours == theirs for ours, theirs in pairs) / len(pairs):.4f}"
    if not has_entities:
        return accuracy
    scores = score_entities(*count_entities(gold, predicted).values())
    summary = ", ".join([accuracy, *(f"{name} {score:.4f}" for name, score in scores.items())])
    table = import_seqeval().classification_report(gold, predicted, digits=4, zero_division=0)
    return f"{table}\n{summary}"


def tag_file(args: argparse.Namespace) -> None:
    """Predict, write, report.

    Raises:
        ValueError, OSError: for what the user can mend.
    """
    if args.out and args.out.exists():
        raise ValueError(f"--out {args.out} exists already: remove it, or name another file")
    lines = read_lines(args.input)
    sentences = parse_conll(lines, args.input, args.word_column, args.tag_column)
    model, task = load_finetuned(args.checkpoint, "electra_tagging", args.data)
    check_gold(sentences, task.labels, args.input)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    dataset = task.make_dataset([each._replace(tags=[]) for each in sentences], str(args.input))
    predicted = predict(model, dataset, task.labels)
    text = "".join(
        f"{line}\n" for line in append_tags(lines, (tag for tags in predicted for tag in tags))
    )
    if args.out:
        args.out.write_text(text, encoding="utf-8", newline="")
    else:
        sys.stdout.write(text)
    notes = sys.stdout if args.out else sys.stderr
    if args.tag_column is not None:
        gold = [sentence.tags for sentence in sentences]
        print(report(gold, predicted, are_entity_tags(task.labels)), file=notes)
    print(describe_dataset(dataset, sentences), file=notes)
