"""Which of two sentences is right, by a model's scores: BLiMP and other minimal pairs.

In: a checkpoint, and JSON lines with `sentence_good` and `sentence_bad`, as BLiMP has them. Out:
the percent of pairs whose good sentence scores higher, by file, by `field` and as the mean over
files; for each score by its sum over tokens, and by its mean ("per token"). A model that only fills
masks, such as fairseq's RoBERTa, has the generator's score, its pseudo-log-likelihood.
"""

import argparse
import json
import sys
from itertools import chain, tee
from pathlib import Path
from statistics import fmean
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

from fairseq_electra.hub import SCORES
from fairseq_electra.new_folder import write_whole_text

SENTENCES = ("sentence_good", "sentence_bad")
READINGS = ("sum", "mean")  # of a sentence's tokens
CELL = 15  # characters of a column
Hits = Dict[str, Dict[str, float]]  # by kind and reading


class Pair(NamedTuple):
    """Two sentences, of which the first is right; `field` "" if the file names none."""

    good: str
    bad: str
    field: str


class Judged(NamedTuple):
    """A pair, in its file, and whether the good sentence scored higher."""

    file: str
    field: str
    hits: Hits  # 1.0, or 0.0


def read_pairs(path: Path) -> List[Pair]:
    """The pairs of a file.

    Raises:
        ValueError: with the file and the line, if a line is no pair, or the file has none.
        OSError: if it cannot be read.
    """
    pairs = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            pairs.append(read_pair(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    if not pairs:
        raise ValueError(f"{path} has no pairs")
    return pairs


def read_pair(line: bytes) -> Pair:
    """The pair of a line; ValueError if it is none."""
    try:
        given = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError(f"not an object with {' and '.join(SENTENCES)}")
    for name in SENTENCES:
        sentence = given.get(name)
        if not isinstance(sentence, str):
            raise ValueError(f"no text {name}")
        if not sentence.strip():
            raise ValueError(f"{name} is empty")
    return Pair(*(given[name] for name in SENTENCES), str(given.get("field") or ""))


def name_files(paths: Sequence[Path]) -> List[str]:
    """Their names without the ending, or as given where two would be called the same."""
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in paths]


def judge_pairs(
    model, pairs: Iterable[Tuple[str, Pair]], kinds: Sequence[str], batch_size: int
) -> Iterator[Judged]:
    """For each pair, which comes with its file's name, whether the good sentence scores higher.

    Two sentences that the tokenizer reads alike are no hit.
    """
    from fairseq_electra.hub.scores import score_pieces

    pairs = list(pairs)
    read = (model.read(text) for _, pair in pairs for text in (pair.good, pair.bad))
    read, same = tee(read)
    scores = score_pieces(model, read, kinds, batch_size)
    for (file, pair), good, bad in zip(pairs, scores, scores):
        alike = next(same).numbers == next(same).numbers
        hits = {kind: compare_pieces(good[kind], bad[kind], alike) for kind in kinds}
        yield Judged(file, pair.field, hits)


def compare_pieces(good, bad, alike: bool) -> Dict[str, float]:
    """Whether the tokens of `good`, (P,), score above those of `bad`, by each of READINGS.

    Args:
        alike: they are the same tokens, whose scores differ by rounding.
    """
    if alike:
        return dict.fromkeys(READINGS, 0.0)
    sums = good.sum().item(), bad.sum().item()
    means = sums[0] / max(len(good), 1), sums[1] / max(len(bad), 1)
    return {"sum": float(sums[0] > sums[1]), "mean": float(means[0] > means[1])}


def summarize(judged: Sequence[Judged]) -> Dict[str, Any]:
    """Number of pairs, and percent of hits by kind and reading."""
    return {
        "pairs": len(judged),
        "accuracy": average([each.hits for each in judged], 100),
    }


def average(hits: Sequence[Hits], times: float = 1) -> Hits:
    """The means, `times` as much."""
    return {
        kind: {reading: times * fmean(each[kind][reading] for each in hits) for reading in READINGS}
        for kind in hits[0]
    }


def report(judged: Sequence[Judged]) -> Dict[str, Any]:
    """Accuracy in percent by file, by field, and as the mean over files."""
    files = {name: summarize(part) for name, part in group(judged, "file").items()}
    fields = {name: summarize(part) for name, part in group(judged, "field").items() if name}
    mean = average([each["accuracy"] for each in files.values()])
    return {"mean": mean, "fields": fields, "files": files}


def group(judged: Sequence[Judged], by: str) -> Dict[str, List[Judged]]:
    """By file or field, in the order of their first pairs."""
    parts: Dict[str, List[Judged]] = {}
    for each in judged:
        parts.setdefault(getattr(each, by), []).append(each)
    return parts


def format_report(found: Dict[str, Any]) -> str:
    """A table: a line for each file, for each field, and for the mean."""
    kinds = list(found["mean"])
    rows = [["", "pairs", *(name for kind in kinds for name in (kind, "per token"))]]
    for part in ("files", "fields"):
        rows += [
            [name, str(each["pairs"]), *list_numbers(each["accuracy"])]
            for name, each in found[part].items()
        ]
        rows.append([])
    rows.append([f"mean over {len(found['files'])} files", "", *list_numbers(found["mean"])])
    width = max(len(row[0]) for row in rows if row)
    lines = ("".join(f"{cell:>{CELL}}" for cell in row[1:]) for row in rows)
    return "\n".join(
        f"{row[0] if row else '':{width}}{line}".rstrip() for row, line in zip(rows, lines)
    )


def list_numbers(accuracy: Hits) -> List[str]:
    return [f"{accuracy[kind][reading]:.1f}" for kind in accuracy for reading in READINGS]


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="CHECKPOINT", help="also its folder, or a known name")
    parser.add_argument("files", metavar="FILE.jsonl", nargs="+", type=Path)
    parser.add_argument(
        "--score",
        nargs="+",
        choices=SCORES,
        help="one pass a sentence: discriminator, electric; one a token: generator, combined "
        "(default: all that the model has)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the numbers")
    parser.add_argument("--batch-size", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--precision", default="float32", help="float32 or bf16 (default: %(default)s)"
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="if its data has moved")
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error("--batch-size must be 1 or more")
    return args


def run(args: argparse.Namespace) -> None:
    """Judge all pairs, print the table, write the file."""
    from tqdm import tqdm

    from fairseq_electra.hub.loading import load_scorer
    from fairseq_electra.hub.scores import list_kinds

    if args.out is not None and args.out.exists():
        raise ValueError(f"--out {args.out} exists already: remove it, or name another file")
    names = name_files(args.files)
    files = [read_pairs(path) for path in args.files]
    model = load_scorer(args.model, args.device, args.precision, args.data)
    kinds = args.score or list_kinds(model)
    pairs = chain.from_iterable(((name, pair) for pair in file) for name, file in zip(names, files))
    judged = judge_pairs(model, pairs, kinds, args.batch_size)
    total = sum(map(len, files))
    found = report(list(tqdm(judged, total=total, unit="pair", disable=None, file=sys.stderr)))
    print(format_report(found))
    if args.out is not None:
        given = {"model": str(model.checkpoint), "score": kinds, **found}
        write_whole_text(args.out, json.dumps(given, indent=1) + "\n")
