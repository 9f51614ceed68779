"""A pre-training checkpoint and a data-bin -> a report of what was masked, sampled and judged.

show.py is the command.
"""

import argparse
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import torch
from fairseq import utils

from fairseq_electra.criterions.discriminator_metrics import (
    compute_discriminator_metrics,
    count_logits,
)
from fairseq_electra.data.tokenizer import INFO_FILE, Tokenizer, load_tokenizer
from fairseq_electra.hub.finetuned_model import build, read_state
from fairseq_electra.modules.two_towers import noise_logits
from fairseq_electra.runs.render_replacements import Report, Sentence
from fairseq_electra.runs.replacement_words import (
    Token,
    count_tokens,
    describe_counts,
    lay_out_words,
)


def load_state(path: Path, data: Optional[str]) -> Dict:
    """A checkpoint of `--task electra`, its data path replaced if `data` is given.

    Raises:
        ValueError: if there is none, or it is something else.
    """
    state = read_state(path, data)
    task = state["cfg"]["task"]["_name"]
    if task != "electra":
        raise ValueError(
            f"{path} was trained with --task {task} and has no generator: name a checkpoint of "
            "ELECTRA pre-training (--task electra)"
        )
    made = state["optimizer_history"][-1]["num_updates"]
    first = getattr(state["cfg"]["model"], "mlm_updates", 0)
    if made < first:
        raise ValueError(
            f"{path} has made {made} updates: its discriminator judges nothing before {first} "
            "(--mlm-updates)"
        )
    return state


def find_data(state: Dict, is_given: bool) -> Path:
    """The folder that the task reads held-out data from.

    Raises:
        ValueError: if it is gone.
    """
    folder = Path(utils.split_paths(state["cfg"]["task"]["data"])[0])
    if folder.is_dir():
        return folder
    if is_given:
        raise ValueError(f"--data {folder}: no such folder")
    raise ValueError(
        f"the checkpoint's data-bin {folder.absolute()} is not there: say where it is with "
        "--data DATA_BIN"
    )


def check_split(folder: Path, split: str) -> None:
    """ValueError, naming the splits that are there, if this one is not."""
    splits = sorted(path.stem for path in folder.glob("*.bin"))
    if splits and split not in splits:
        raise ValueError(f"--split {split}: {folder} has only {', '.join(splits)}")


def choose_sentences(args: argparse.Namespace, available: int) -> range:
    """Numbers of the sentences to show, from 0; ValueError if there are none."""
    if args.start > available:
        raise ValueError(f"--start {args.start}: {args.split} has {available} sentences")
    return range(args.start - 1, min(args.start - 1 + args.sentences, available))


def judge_sentences(model, dataset, dictionary, numbers) -> Iterator[List[Token]]:
    """Run both networks on sentences, one by one so that long ones need no more memory."""
    for number in numbers:
        net_input = dataset.collater([dataset[number]])["net_input"]
        with torch.inference_mode():
            output = model(**net_input)
        if output.log_q is not None:  # of Electric: the odds that a token is the generator's
            logits = noise_logits(output.disc_logits, output.log_q, dataset.mask_prob)
            output = output._replace(disc_logits=logits)
        yield read_tokens(net_input, output, dictionary)


def read_tokens(net_input: Dict, output, dictionary) -> List[Token]:
    """What happened to each token of a batch of one sentence."""
    picked = set(net_input["picked"][net_input["picked_weights"] > 0].tolist())
    mask_idx = dictionary.index("<mask>")
    columns = (
        net_input["src_tokens"][0],
        output.masked_tokens[0],
        output.corrupted_tokens[0],
        output.disc_logits[0].float(),
    )
    return [
        Token(
            original=dictionary[original],
            is_picked=place in picked,
            is_masked=place in picked and masked == mask_idx,
            sample=dictionary[sample],
            logit=logit,
        )
        for place, (original, masked, sample, logit) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        )
    ]


def summarize(tokens: List[Token]) -> List[str]:
    """Lines of counts and metrics over all the tokens shown."""
    counts = count_tokens(tokens)
    right = counts["picked"] - counts["replaced"]
    metrics = measure_discriminator(tokens)
    auc = f"{metrics['disc_auc']:.3f}" if counts["replaced"] else "-"
    return [
        describe_counts(counts),
        f"generator: {show_share(right, counts['picked'])} of its samples are the original token",
        f"discriminator: accuracy {metrics['disc_acc']:.1%} (always saying original: "
        f"{1 - metrics['replaced']:.1%}), "
        f"precision {show_share(counts['found'], counts['found'] + counts['alarm'])}, "
        f"recall {show_share(counts['found'], counts['replaced'])}, AUC {auc}",
    ]


def measure_discriminator(tokens: List[Token]) -> Dict[str, float]:
    """The metrics of training, over these tokens."""
    is_replaced = torch.tensor([token.is_replaced for token in tokens])
    logits = torch.tensor([token.logit for token in tokens])
    histogram = count_logits(logits, is_replaced, torch.ones_like(is_replaced))
    return compute_discriminator_metrics(histogram)


def show_share(part: int, whole: int) -> str:
    """12.5% for 1 of 8; "-" of nothing."""
    return f"{part / whole:.1%}" if whole else "-"


def find_tokenizer(folder: Path) -> Optional[Tokenizer]:
    """The data-bin's tokenizer; None for data in which every piece is a word."""
    return load_tokenizer(folder) if (folder / INFO_FILE).is_file() else None


def make_report(args: argparse.Namespace) -> Report:
    """Load, run, describe.

    Raises:
        ValueError, OSError: for what the user can mend.
    """
    state = load_state(args.checkpoint, args.data)
    folder = find_data(state, is_given=args.data is not None)
    check_split(folder, args.split)
    model, task = build(args.checkpoint, state, folder)
    model.cfg.compile = "none"  # for some sentences, on the CPU
    task.load_dataset(args.split)
    dataset = task.dataset(args.split)
    numbers = choose_sentences(args, len(dataset))
    sentences = list(judge_sentences(model, dataset, task.source_dictionary, numbers))
    tokenizer = find_tokenizer(folder)
    history = state.get("optimizer_history") or [{}]
    updates = history[-1].get("num_updates", "an unknown number of")
    return Report(
        title=f"{args.checkpoint} after {updates} updates, {args.split} of {folder}",
        sentences=[
            Sentence(
                title=f"sentence {number + 1} of {len(dataset)}",
                words=lay_out_words(tokens, tokenizer),
                counts=describe_counts(count_tokens(tokens)),
            )
            for number, tokens in zip(numbers, sentences, strict=True)
        ],
        summary=summarize([token for tokens in sentences for token in tokens]),
    )
