"""Write raw text as pieces: a line for each paragraph, a blank line after each document.

In: a saved tokenizer and lines with their split. Out: FOLDER/train, valid and test, which
fairseq-preprocess reads. Several processes, bounded memory.
"""

import os
import sys
import threading
import time
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from fairseq_electra.data.tokenizer import UNKNOWN, load_tokenizer
from fairseq_electra.process.state import process_state
from fairseq_electra.text.raw_text import read_lines

CHUNK = 1 << 19  # characters that a process gets at a time
SECONDS = 5  # between lines of progress

Line = Tuple[str, str]  # split, text


class Counts(NamedTuple):
    """What was written, by split."""

    documents: Counter
    bytes: Counter
    pieces: Counter
    unknown: Counter


class Encoded(NamedTuple):
    """A chunk of one split after its tokenization."""

    split: str
    text: str  # lines of pieces
    bytes: int  # before tokenization
    pieces: int


def split_documents(paths: Iterable[Path], choose: Callable[[int], str]) -> Iterator[Line]:
    """Lines with the split of their document, "" once after each; a file ends a document."""
    document = 0
    for path in paths:
        inside = False
        for line in chain(read_lines(path), [""]):
            if line or inside:
                yield choose(document), line
            document += inside and not line
            inside = bool(line)


def pack_chunks(lines: Iterable[Line], documents: Counter) -> Iterator[Line]:
    """Texts of about CHUNK characters, each of one split; counts documents on the way."""
    waiting: Dict[str, List[str]] = {}
    sizes: Counter = Counter()
    for split, line in lines:
        waiting.setdefault(split, []).append(line)
        documents[split] += not line
        sizes[split] += len(line)
        if sizes[split] > CHUNK:
            yield split, "\n".join(waiting.pop(split))
            sizes[split] = 0
    for split, rest in waiting.items():
        yield split, "\n".join(rest)


def start_worker(folder: Path) -> None:
    """Load the tokenizer once in each process."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread in each of our processes
    process_state.tokenizer = load_tokenizer(folder)
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()


def end_with_parent(parent: int) -> None:
    """End a worker whose parent was killed: it would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def encode_chunk(chunk: Line) -> Encoded:
    """One chunk as lines of pieces."""
    split, text = chunk
    lines = text.split("\n")
    encoded = process_state.tokenizer.encode_lines(lines)
    # What has no pieces, such as control characters, must not become a blank line.
    joined = [" ".join(p) or (line and UNKNOWN) for line, p in zip(lines, encoded, strict=True)]
    size = len(text.encode("utf-8"))
    return Encoded(split, "\n".join(joined) + "\n", size, sum(map(len, encoded)))


def map_bounded(pool: ProcessPoolExecutor, chunks: Iterable[Line], limit: int) -> Iterator[Encoded]:
    """Results in order, at most limit chunks under way: pool.map would read all of them first."""
    pending = deque()
    for chunk in chunks:
        if len(pending) == limit:
            yield pending.popleft().result()
        pending.append(pool.submit(encode_chunk, chunk))
    while pending:
        yield pending.popleft().result()


def write_pieces(lines: Iterable[Line], folder: Path, out_dir: Path, workers: int) -> Counts:
    """Encode all lines with the tokenizer saved in folder; writes out_dir/SPLIT."""
    counts = Counts(Counter(), Counter(), Counter(), Counter())
    files = {}
    start = shown = time.time()
    with ProcessPoolExecutor(workers, initializer=start_worker, initargs=(folder,)) as pool:
        chunks = pack_chunks(lines, counts.documents)
        for done in map_bounded(pool, chunks, 3 * workers):
            if done.split not in files:
                files[done.split] = (out_dir / done.split).open("w", encoding="utf-8")
            files[done.split].write(done.text)
            counts.bytes[done.split] += done.bytes
            counts.pieces[done.split] += done.pieces
            counts.unknown[done.split] += done.text.count(UNKNOWN)
            if time.time() > shown + SECONDS:
                shown = time.time()
                show_progress(counts, shown - start)
    for file in files.values():
        file.close()
    show_progress(counts, time.time() - start)
    return counts


def show_progress(counts: Counts, seconds: float) -> None:
    """One line on what is done so far."""
    documents, size = sum(counts.documents.values()), sum(counts.bytes.values()) / 1e6
    print(
        f"tokenized {documents} documents, {size:.1f} MB, {size / seconds:.1f} MB/s",
        file=sys.stderr,
    )
