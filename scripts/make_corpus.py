"""Make a corpus of real English, and a labelled task, out of installed packages' documentation.

In: an output folder. Out: train.txt, valid.txt and test.txt (a paragraph a line, a blank line
after each module) and library/{train,valid,test}.tsv (label, tab, text). No module is in two
splits and no paragraph occurs twice, so nothing of valid or test is in train.
"""

import argparse
import hashlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Tuple

from doc_paragraphs import extract_paragraphs
from docstrings import PACKAGES, Module, find_modules, read_docstrings
from fairseq_electra.new_folder import new_folder
from library_task import LABELS, Example, choose_examples, cut_chunks

SPLITS = ("train", "valid", "test")
CAPS = {"train": 1500, "valid": 150, "test": 150}  # examples of a label
SALT = 74  # with it every label has about a hundred examples in each split
PROCESSES = 2

Document = Tuple[Module, List[List[str]]]  # for each docstring, its paragraphs


def choose_split(name: str) -> str:
    """Split of a module by the hash of its name: 90, 5 and 5 of 100."""
    number = int(hashlib.md5(f"{SALT} {name}".encode()).hexdigest(), 16) % 100
    return "train" if number < 90 else "valid" if number < 95 else "test"


def read_module(module: Module) -> Document:
    """The module with the paragraphs of each of its docstrings."""
    return module, [extract_paragraphs(text) for text in read_docstrings(module.path)]


def read_packages(packages: Iterable[str]) -> Iterator[Document]:
    """Documents of all modules of the packages that are installed, in a fixed order."""
    modules = [module for package in packages for module in find_modules(package)]
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


def write_corpus(documents: Iterable[Document], folder: Path) -> Tuple[Counter, Counter]:
    """Write all files into folder; characters of each (package, split), examples of each."""
    sizes, examples = Counter(), {split: [] for split in SPLITS}
    files = {split: (folder / f"{split}.txt").open("w", encoding="utf-8") for split in SPLITS}
    for module, docstrings in documents:
        split = choose_split(module.name)
        text = "\n".join(line for paragraphs in docstrings for line in paragraphs) + "\n"
        files[split].write(text + "\n")
        sizes[module.package, split] += len(text)
        if module.package in LABELS:
            chunks = (chunk for paragraphs in docstrings for chunk in cut_chunks(paragraphs))
            examples[split] += [(module.package, chunk) for chunk in chunks]
    for file in files.values():
        file.close()
    return sizes, write_task(examples, folder / "library")


def write_task(examples: Dict[str, List[Example]], folder: Path) -> Counter:
    """Write the labelled splits; number of examples of each (label, split)."""
    folder.mkdir()
    counts = Counter()
    for split in SPLITS:
        kept = choose_examples(examples[split], CAPS[split])
        lines = "".join(f"{label}\t{text}\n" for label, text in kept)
        (folder / f"{split}.tsv").write_text(lines, encoding="utf-8")
        counts.update((label, split) for label, _ in kept)
    return counts


def format_table(sizes: Counter, counts: Counter) -> str:
    """A line for each package: MB of text and labelled examples in each split."""
    packages = sorted({package for package, _ in sizes}, key=lambda name: -sizes[name, "train"])
    for table in (sizes, counts):
        for (_, split), number in list(table.items()):
            table["all", split] += number
    lines = [f"{'':16}{'MB of text':^24}{'labelled examples':^24}"]
    lines.append(f"{'package':16}" + "".join(f"{split:>8}" for split in SPLITS * 2))
    for package in [*packages, "all"]:
        megabytes = "".join(f"{sizes[package, split] / 1e6:8.2f}" for split in SPLITS)
        examples = "".join(f"{counts[package, split] or '':8}" for split in SPLITS)
        lines.append(f"{package:16}{megabytes}{examples}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    args = parser.parse_args()
    print("reading the documentation of installed packages ...", flush=True)
    try:
        with new_folder(args.out_dir) as folder:
            sizes, counts = write_corpus(drop_repeated(read_packages(PACKAGES)), folder)
    except (ValueError, OSError) as error:
        raise SystemExit(f"make_corpus.py: {error}") from None
    print(format_table(sizes, counts))


if __name__ == "__main__":
    main()
