"""What hub.Electra answers, from the shell: a line in, a line of JSON out.

In: a command's name, a model, lines of a file or of standard input. Out: JSON, a line for each line
in its order. A line that has no answer is named on standard error with its number, the others are
answered, and the exit status is 1. However long the input is, CHUNK lines are in memory.

`tag --conll` and `answer FILE.json` (or --squad) are tag.py and answer.py.
"""

import argparse
import importlib
import json
import sys
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from fairseq_electra.hub import SCORES

CHUNK = 256  # lines that are answered together, sorted by length
SAMPLE = "The cat sat on the mat."


class Option(NamedTuple):
    """An option of a command, which is an argument of its method."""

    flag: str
    help: str
    how: Dict[str, Any] = {}  # as ArgumentParser.add_argument takes it


class Reader(NamedTuple):
    """How a line is read: the function, what a line is, one that every right model can answer."""

    read: Callable[[str], Any]
    form: str
    sample: str


class Ask(NamedTuple):
    """A command. `run(electra, items, **options)` gives a result for each of a list of items."""

    does: str
    example: str
    reader: Reader
    run: Callable[..., Iterable[Any]]
    options: Tuple[Option, ...] = ()


# --- lines


def read_columns(line: str, number: int = 2) -> Tuple[str, ...]:
    """Columns of a line, separated by tabs; ValueError if they are more or fewer."""
    columns = tuple(line.split("\t"))
    if len(columns) != number:
        raise ValueError(f"{len(columns)} columns, not {number} separated by a tab")
    return columns


def read_question(line: str) -> Tuple[str, str]:
    """Question and context of a JSON object; ValueError if it is none or lacks one."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    names = ("question", "context")
    if not isinstance(given, dict) or not all(isinstance(given.get(name), str) for name in names):
        raise ValueError('not of the form {"question": "...", "context": "..."}')
    return given["question"], given["context"]


TEXT = Reader(str, "a text", SAMPLE)
MASKED = Reader(str, "a text with one <mask>", "The cat <mask> on the mat.")
PAIR = Reader(read_columns, "two texts, separated by a tab", f"{SAMPLE}\t{SAMPLE}")
QUESTION = Reader(
    read_question,
    'JSON: {"question": "...", "context": "..."}',
    json.dumps({"question": "Where did the cat sit?", "context": SAMPLE}),
)


# --- methods of Electra


def together(name: str) -> Callable[..., Iterable[Any]]:
    """A method that takes a list of items."""
    return lambda electra, items, **options: getattr(electra, name)(items, **options)


def one_by_one(name: str) -> Callable[..., Iterable[Any]]:
    """A method that takes one item."""
    return lambda electra, items, **options: (
        getattr(electra, name)(item, **options) for item in items
    )


def answer_questions(electra, questions: List[Tuple[str, str]], **options) -> Iterator[Any]:
    """The answers to each question about its context."""
    return (electra.answer(question, context, **options) for question, context in questions)


def compare_pairs(electra, pairs: List[Tuple[str, str]], **options) -> List[float]:
    """By how many nats the first of each pair scores above the second, as Electra.compare."""
    scores = electra.score([text for pair in pairs for text in pair], **options)
    return [one - other for one, other in zip(scores[::2], scores[1::2])]


def embed(electra, texts: List[str], **options):
    """Vectors (N, C); of its progress the bar of all lines tells."""
    return electra.embed(texts, show_progress_bar=False, **options)


def pair_similarity(electra, pairs: List[Tuple[str, str]], **options) -> List[float]:
    """Cosine of the embeddings of each pair."""
    vectors = embed(electra, [text for pair in pairs for text in pair], **options)
    return electra.similarity_pairwise(vectors[::2], vectors[1::2]).tolist()


# --- the table


def number(flag: str, default, what: str, kind=int) -> Option:
    """An option that is a number."""
    given = {"type": kind, "default": default, "metavar": "N" if kind is int else "X"}
    return Option(flag, f"{what} (default: %(default)s)", given)


TOPK = number("--topk", 5, "words for a place")
LAYER = Option("--layer", "0, the embeddings, to the last; -1 is the last", {"type": int})
BY = Option(
    "--by",
    "what judges (default: electric of what that trained, otherwise discriminator)",
    {"choices": SCORES},
)
COMMANDS: Dict[str, Ask] = {
    "replaced": Ask(
        "for each word of a text, the probability that it does not belong there",
        "replaced runs/electra text.txt",
        TEXT,
        together("replaced"),
    ),
    "proofread": Ask(
        "suspicious words, and what would fit in their place",
        "proofread runs/electra text.txt --threshold 0.8",
        TEXT,
        together("proofread"),
        (TOPK, number("--threshold", 0.5, "least probability that a word is wrong", float)),
    ),
    "fill-mask": Ask(
        "words for the <mask> of a text: [filled text, probability, word], best first",
        "fill-mask runs/electra masked.txt --topk 3",
        MASKED,
        together("fill_mask"),
        (TOPK,),
    ),
    "score": Ask(
        "how natural a text is, in nats; of two, which is more natural",
        "score runs/electra text.txt",
        TEXT,
        together("score"),
        (BY,),
    ),
    "zero-shot": Ask(
        "labels of a text without fine-tuning",
        'zero-shot runs/electra text.txt --labels good bad --template "{text} It was {label}."',
        TEXT,
        together("zero_shot"),
        (
            Option(
                "--labels",
                "words or phrases",
                {"nargs": "+", "required": True, "metavar": "LABEL"},
            ),
            Option(
                "--template",
                "with {text} and {label} (default: %(default)s)",
                {"default": "{text} {label}"},
            ),
        ),
    ),
    "embed": Ask(
        "a vector for each text",
        "embed runs/electra text.txt --out vectors.npy",
        TEXT,
        embed,
        (
            LAYER,
            Option(
                "--normalize",
                "vectors of length 1",
                {"dest": "normalize_embeddings", "action": "store_true"},
            ),
        ),
    ),
    "similarity": Ask(
        "how alike two texts are: the cosine of their vectors",
        "similarity runs/electra pairs.tsv",
        PAIR,
        pair_similarity,
        (LAYER,),
    ),
    "summarize": Ask(
        "the sentences that say most of a text",
        "summarize runs/electra texts.txt --num-sentences 2",
        TEXT,
        one_by_one("summarize"),
        (
            number("--num-sentences", 3, "how many"),
            number("--diversity", 0.3, "0: the most central ones, 1: the most different", float),
            Option(
                "--no-first",
                "do not always take the first sentence",
                {"dest": "use_first", "action": "store_false"},
            ),
        ),
    ),
    "generate": Ask(
        "text that begins with a line, or fills its gaps (<mask>)",
        "generate runs/electra prompts.txt --length 12 --seed 1",
        TEXT,
        one_by_one("generate"),
        (
            number("--length", 20, "of what is new, in pieces"),
            number("--steps", 10, "rounds in which the worst pieces are drawn again"),
            number("--temperature", 1.0, "of the samples; 0 takes the best piece", float),
            Option("--seed", "for the same text again", {"type": int}),
            Option(
                "--show-rejected",
                "also what each round rejected",
                {"action": "store_true"},
            ),
        ),
    ),
    "classify": Ask(
        "labels of a text, or a number, by a fine-tuned head",
        "classify runs/task text.txt",
        TEXT,
        together("classify"),
        (number("--top-k", 1, "labels for a text"),),
    ),
    "tag": Ask(
        "entities of a text by a fine-tuned head; --conll: of a CoNLL file",
        "tag runs/tags text.txt",
        TEXT,
        together("tag"),
        (
            Option(
                "--words",
                "the tag of each word, not entities",
                {"dest": "aggregate", "action": "store_false"},
            ),
        ),
    ),
    "answer": Ask(
        "answers to questions by a fine-tuned head; FILE.json: of a SQuAD file",
        "answer runs/squad questions.jsonl",
        QUESTION,
        answer_questions,
        (number("--top-k", 1, "answers to a question"),),
    ),
    "explain": Ask(
        "why a head says so: what each word adds",
        "explain runs/task text.txt --head sentence_classification_head --html why.html",
        TEXT,
        one_by_one("explain"),
        (Option("--head", "of the model (default: the discriminator)"),),
    ),
}
# commands that read pairs too, where --pairs is given, and what then answers
PAIRED = {
    "classify": together("classify"),
    "score": compare_pairs,
    "explain": one_by_one("explain"),
}
# for files of a task, by that option: modules with `parse_args` and `run` of their own
FILE_OPTIONS = {"tag": "--conll", "answer": "--squad"}


# --- the command line


def is_of_file(name: str, arguments: List[str]) -> bool:
    """Whether a file of a task is given, not lines: by its option, by --out, as SQuAD's .json."""
    if name not in FILE_OPTIONS:
        return False
    signs = [each.startswith(("--out", FILE_OPTIONS[name])) for each in arguments]
    return any(signs) or (name == "answer" and any(each.endswith(".json") for each in arguments))


def parse_args(argv: List[str]) -> argparse.Namespace:
    """The arguments of a command, whose name is the first."""
    name, *arguments = argv
    if is_of_file(name, arguments):
        module = importlib.import_module(f"fairseq_electra.hub.{name}")
        args = module.parse_args([each for each in arguments if each != FILE_OPTIONS[name]])
        args.run = module.run
        return args
    ask = COMMANDS[name]
    about = f"{ask.does}\n\nA line in is {ask.reader.form}, a line out is JSON."
    if name in FILE_OPTIONS:
        about += f"\n{FILE_OPTIONS[name]}: see {FILE_OPTIONS[name]} --help."
    parser = argparse.ArgumentParser(
        prog=f"fairseq-electra {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, its folder, or a known name")
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="default: standard input"
    )
    for option in ask.options:
        parser.add_argument(option.flag, help=option.help, **option.how)
    if name in PAIRED:
        parser.add_argument("--pairs", action="store_true", help=f"a line in is {PAIR.form}")
    if name == "embed":
        parser.add_argument("--out", type=Path, metavar="FILE.npy", help="write a numpy array")
    if name == "explain":
        parser.add_argument(
            "--html", type=Path, metavar="FILE", help="write pages: FILE-2 for the second answer"
        )
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--precision", default="float32", help="float32 or bf16 (default: %(default)s)"
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="if its data has moved")
    args = parser.parse_args(arguments)
    args.command, args.run = name, answer_input
    return args


def run(args: argparse.Namespace) -> None:
    """Answer all lines, or what a file of a task asks."""
    args.run(args)


def answer_input(args: argparse.Namespace) -> None:
    """Answer all lines.

    Raises:
        ValueError, OSError: for what the user can mend before the first line is read.
        SystemExit: if some lines had no answer.
    """
    from fairseq_electra import hub

    with open_input(args.file) as lines, choose_writer(args) as write:
        electra = hub.load(args.model, args.device, args.precision, args.data)
        done, failed = answer_lines(args, electra, lines, write)
    if failed:
        raise SystemExit(f"fairseq-electra {args.command}: {failed} of {done} lines had no answer")


def open_input(path) -> BinaryIO:
    """The lines as bytes: where one is not UTF-8 the others still are."""
    return sys.stdin.buffer if path is None else path.open("rb")


# --- from line to line


class Line(NamedTuple):
    """A line that could be read."""

    number: int
    item: Any


class Failures:
    """Lines without an answer, each told on standard error."""

    def __init__(self, command: str, bar):
        self.command, self.bar, self.count = command, bar, 0

    def add(self, number: int, error: Exception) -> None:
        self.count += 1
        reason = " ".join(str(error).split())
        with self.bar.external_write_mode(file=sys.stderr):
            print(f"fairseq-electra {self.command}: line {number}: {reason}", file=sys.stderr)


def answer_lines(
    args: argparse.Namespace, electra, lines: BinaryIO, write: Callable[[Any], None]
) -> Tuple[int, int]:
    """Answer each line; how many there were, and how many had no answer.

    Raises:
        ValueError: for what no line can be answered with.
    """
    from tqdm import tqdm

    ask = COMMANDS[args.command]
    reader, run = ask.reader, ask.run
    if getattr(args, "pairs", False):
        reader, run = PAIR, PAIRED[args.command]
    run = partial(run, electra, **{name: getattr(args, name) for name in map(name_of, ask.options)})
    try_sample(run, reader)
    size = args.file.stat().st_size if args.file and args.file.is_file() else None
    with tqdm(total=size, unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:
        failures = Failures(args.command, bar)
        done = 0
        for chunk in cut_chunks(lines, 1 if lines.isatty() else CHUNK):
            items = read_lines(chunk, done, reader.read, failures)
            for result in answer_each(run, list(items), failures):
                write(result)
            done += len(chunk)
            bar.update(sum(map(len, chunk)))
    return done, failures.count


def try_sample(run: Callable[[List[Any]], Iterable[Any]], reader: Reader) -> None:
    """ValueError if not even the sample is answered: the model or an option is the reason."""
    try:
        list(run([reader.read(reader.sample)]))
    except ImportError as error:
        raise ValueError(str(error)) from None


def name_of(option: Option) -> str:
    """The name of the method's argument."""
    return option.how.get("dest", option.flag.lstrip("-").replace("-", "_"))


def cut_chunks(lines: Iterable[bytes], size: int) -> Iterator[List[bytes]]:
    """Lists of `size` lines, the last perhaps of fewer."""
    chunk: List[bytes] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def read_lines(
    chunk: List[bytes], done: int, read: Callable[[str], Any], failures: Failures
) -> Iterator[Line]:
    """The lines of a chunk that can be read; `done` were before it."""
    for number, line in enumerate(chunk, start=done + 1):
        try:
            text = decode(line).removeprefix("\ufeff" if number == 1 else "")
            yield Line(number, read(text))
        except ValueError as error:
            failures.add(number, error)


def decode(line: bytes) -> str:
    """Text of a line without its end; ValueError if it is not UTF-8."""
    try:
        return line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start + 1})") from None


def answer_each(
    run: Callable[[List[Any]], Iterable[Any]], lines: List[Line], failures: Failures
) -> Iterator[Any]:
    """The results of lines, in halves where one of them has none."""
    if not lines:
        return
    done = 0
    try:
        for result in run([line.item for line in lines]):
            done += 1
            yield result
        return
    except ValueError as error:
        if done or len(lines) == 1:  # of one by one, it is the line after those that are done
            failures.add(lines[done].number, error)
            rest = [lines[done + 1 :]]
        else:
            rest = [lines[: len(lines) // 2], lines[len(lines) // 2 :]]
    for part in rest:
        yield from answer_each(run, part, failures)


# --- results


@contextmanager
def choose_writer(args: argparse.Namespace) -> Iterator[Callable[[Any], None]]:
    """What writes a result where the options say."""
    for path in (getattr(args, "out", None), getattr(args, "html", None)):
        if path is not None and path.exists():
            raise ValueError(f"{path} exists already: remove it, or name another file")
    if getattr(args, "out", None) is not None:
        with write_rows(args.out) as write:
            yield write
        return
    pages = count(1)

    def write(result: Any) -> None:
        text = json.dumps(result, ensure_ascii=False, default=to_plain)
        sys.stdout.buffer.write(f"{text}\n".encode())  # UTF-8 whatever the terminal's
        sys.stdout.buffer.flush()
        if getattr(args, "html", None) is not None:
            page = number_page(args.html, next(pages))
            page.write_text(result.html(), encoding="utf-8")

    yield write


def number_page(path: Path, number: int) -> Path:
    """why.html, why-2.html, why-3.html."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def to_plain(result: Any) -> Any:
    """What JSON has for an Explanation, or a vector: of float32 the shortest digits."""
    if hasattr(result, "to_dict"):
        return result.to_dict()
    return [float(str(value)) for value in result]


@contextmanager
def write_rows(path: Path) -> Iterator[Callable[[Any], None]]:
    """What adds a row to the array of a .npy file, which is there when all rows are."""
    from numpy.lib import format as npy

    partial_path = path.with_name(path.name + ".partial")
    rows, width = 0, 0

    def write_header(file: BinaryIO) -> None:
        """Of one size for any number of rows, so that it can be written over."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
        npy.write_array_header_1_0(file, header)

    def write(row: Any) -> None:
        nonlocal rows, width
        if not rows:
            width = len(row)
            write_header(file)
        rows += 1
        file.write(row.astype("<f4").tobytes())

    try:
        with partial_path.open("wb") as file:
            yield write
            file.seek(0)
            write_header(file)
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)
