"""Make a corpus of real English, and two labelled tasks, out of installed packages' documentation.

In: an output folder. Out: train.txt, valid.txt and test.txt (a paragraph a line, a blank line
after each module); library/{train,valid,test}.tsv (label, tab, text): which library a text is
from; swapped/{train,valid,test}.txt (a word and its tag a line, a blank line after each
paragraph): which neighbouring words have changed places. No module is in two splits and no
paragraph occurs twice, so nothing of valid or test is in train.
"""

import argparse
import hashlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from fairseq_electra.data.conll import format_conll
from fairseq_electra.new_folder import new_folder
from scripts.corpus.doc_paragraphs import extract_paragraphs
from scripts.corpus.docstrings import PACKAGES, Module, find_modules, read_docstrings
from scripts.corpus.library_task import LABELS, Example, choose_examples, cut_chunks
from scripts.corpus.swapped_task import choose_sentences

SPLITS = ("train", "valid", "test")
CAP = 150  # examples of a label in each split: few, so that pre-training matters
SWAPPED = {"train": 200, "valid": 500, "test": 500}  # paragraphs: few to learn from, as above
SALT = 74  # with it every label has about a hundred examples in each split
PROCESSES = 2

Document = Tuple[Module, List[List[str]]]  # for each docstring, its paragraphs


class Sizes(NamedTuple):
    """How much was written."""

    characters: Counter  # of text, for each (package, split)
    library: Counter  # examples, for each (label, split)
    swapped: Counter  # paragraphs, for each split


def choose_split(name: str) -> Optional[str]:
    """Split of a module by the hash of its name: 45, 5 and 5 of 100.

    None for the others: with them, half of the text would be prepared and not read in the
    quickstart.
    """
    number = int(hashlib.md5(f"{SALT} {name}".encode()).hexdigest(), 16) % 100
    if number < 45:
        return "train"
    return None if number < 90 else "valid" if number < 95 else "test"


def read_module(module: Module) -> Document:
    """The module with the paragraphs of each of its docstrings."""
    return module, [extract_paragraphs(text) for text in read_docstrings(module.path)]


def read_packages(packages: Iterable[str]) -> Iterator[Document]:
    """Documents of the modules that a split has, of all packages that are installed, in order."""
    modules = [
        module
        for package in packages
        for module in find_modules(package)
        if choose_split(module.name) is not None
    ]
    with ProcessPoolExecutor(PROCESSES) as pool:
        yield from pool.map(read_module, modules, chunksize=16)


def drop_repeated(documents: Iterable[Document]) -> Iterator[Document]:
    """The same documents, every paragraph only where it occurs first."""
    seen = set()
    for module, docstrings in documents:
        kept = []
        for paragraphs in docstrings:
            new = [text for text in dict.fromkeys(paragraphs) if text.lower() not in seen]
            seen.update(text.lower() for text in new)
            if new:
                kept.append(new)
        if kept:
            yield module, kept


def write_corpus(documents: Iterable[Document], folder: Path) -> Sizes:
    """Write all files into folder."""
    characters, examples = Counter(), {split: [] for split in SPLITS}
    lines: Dict[str, List[str]] = {split: [] for split in SPLITS}
    files = {split: (folder / f"{split}.txt").open("w", encoding="utf-8") for split in SPLITS}
    for module, docstrings in documents:
        split = choose_split(module.name)
        paragraphs = [line for paragraphs in docstrings for line in paragraphs]
        text = "\n".join(paragraphs) + "\n"
        files[split].write(text + "\n")
        characters[module.package, split] += len(text)
        lines[split] += paragraphs
        if module.package in LABELS:
            chunks = (chunk for paragraphs in docstrings for chunk in cut_chunks(paragraphs))
            examples[split] += [(module.package, chunk) for chunk in chunks]
    for file in files.values():
        file.close()
    library = write_library(examples, folder / "library")
    return Sizes(characters, library, write_swapped(lines, folder / "swapped"))


def write_library(examples: Dict[str, List[Example]], folder: Path) -> Counter:
    """Write the labelled texts; number of examples of each (label, split)."""
    folder.mkdir()
    counts = Counter()
    for split in SPLITS:
        kept = choose_examples(examples[split], CAP)
        lines = "".join(f"{label}\t{text}\n" for label, text in kept)
        (folder / f"{split}.tsv").write_text(lines, encoding="utf-8")
        counts.update((label, split) for label, _ in kept)
    return counts


def write_swapped(paragraphs: Dict[str, List[str]], folder: Path) -> Counter:
    """Write the paragraphs with swapped words; number of them in each split."""
    folder.mkdir()
    counts = Counter()
    for split in SPLITS:
        sentences = choose_sentences(paragraphs[split], SWAPPED[split])
        (folder / f"{split}.txt").write_text(format_conll(sentences), encoding="utf-8")
        counts[split] = len(sentences)
    return counts


def format_table(sizes: Sizes) -> str:
    """A line for each package: MB of text and library examples; a line on swapped words."""
    characters, library, swapped = sizes
    packages = sorted(
        {package for package, _ in characters}, key=lambda name: -characters[name, "train"]
    )
    for table in (characters, library):
        for (_, split), number in list(table.items()):
            table["all", split] += number
    lines = [f"{'':16}{'MB of text':^24}{'library examples':^24}"]
    lines.append(f"{'package':16}" + "".join(f"{split:>8}" for split in SPLITS * 2))
    for package in [*packages, "all"]:
        megabytes = "".join(f"{characters[package, split] / 1e6:8.2f}" for split in SPLITS)
        examples = "".join(f"{library[package, split] or '':8}" for split in SPLITS)
        lines.append(f"{package:16}{megabytes}{examples}")
    paragraphs = "".join(f"{swapped[split]:8}" for split in SPLITS)
    lines.append(f"{'paragraphs with swapped words':40}{paragraphs}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    args = parser.parse_args()
    print("reading the documentation of installed packages ...", flush=True)
    try:
        with new_folder(args.out_dir) as folder:
            sizes = write_corpus(drop_repeated(read_packages(PACKAGES)), folder)
    except (ValueError, OSError) as error:
        raise SystemExit(f"corpus: {error}") from None
    print(format_table(sizes))
