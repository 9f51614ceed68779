"""The corpus of docstrings and its two tasks: what is found, how it reads, what is held out."""

import ast
import collections
import statistics
import sys
import textwrap
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.data.conll import read_conll
from scripts.corpus import docstrings
from scripts.corpus import run as make_corpus
from scripts.corpus.doc_paragraphs import extract_paragraphs
from scripts.corpus.docstrings import find_modules, read_docstrings
from scripts.corpus.library_task import LABELS, choose_examples, cut_chunks, mask_names

LONG = "This is a sentence that is long enough to be kept, and it says nothing at all of interest."


@pytest.mark.parametrize("module", [ast, collections, statistics, textwrap])
def test_every_long_docstring_is_found(module):
    path = Path(module.__file__)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, documented))
    found = [ast.get_docstring(node, clean=False) or "" for node in nodes]
    expected = [text for text in found if len(text) >= docstrings.SHORTEST and "\n" in text]
    assert expected
    assert not set(expected) - set(read_docstrings(path))


def test_only_whole_text_literals_are_read(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        f"""# don't start here: \'\'\'
x = "a \\" \'\'\' b" + 'it\\'s "'
f = f'''{{x}} {LONG}'''
b = b'''{LONG}'''
add_docstring(x, r'''\\d 1 {LONG}''')
def function():
    '''2 \\'\\'\\' {LONG}'''
    # ''' nor here
    return '''short'''
"""
    )
    assert read_docstrings(path) == [f"\\d 1 {LONG}", f"2 ''' {LONG}"]


def test_an_unreadable_file_has_no_docstrings(tmp_path):
    (tmp_path / "latin.py").write_bytes(f"'''{LONG} é'''".encode("latin-1"))
    assert read_docstrings(tmp_path / "latin.py") == []
    assert read_docstrings(tmp_path / "missing.py") == []


@pytest.mark.parametrize(
    ("docstring", "paragraphs"),
    [
        (
            """Return the sum of
            all the items.

            It is
            exact for integers.
            """,
            ["Return the sum of all the items.", "It is exact for integers."],
        ),
        (
            """Parameters
            ----------
            x : array_like, optional
                The values to be used.
                May be empty.
            y : float
                Not used if `x` is given.
            """,
            [
                "x : array_like, optional. The values to be used. May be empty.",
                "y : float. Not used if x is given.",
            ],
        ),
        (
            """Args:
                size (int): the size of the result
                dim: in which of the dimensions
            """,
            ["size (int): the size of the result", "dim: in which of the dimensions"],
        ),
        (
            """- the first of the items here
            * the second of the items,
              on two lines
            """,
            ["the first of the items here", "the second of the items, on two lines"],
        ),
        (
            """See :func:`~package.module.name` for the :class:`Other`, ``code``, *this* [1]_ too.

            .. note:: This is `a link <http://example.org>`_ to the **rest** of it.
            """,
            [
                "See name for the Other, code, this too.",
                "This is a link to the rest of it.",
            ],
        ),
        (
            """>>> the(doctest) of this is not in the text
            ... it is in the code

            def function(a): return a if it is in the list

            +-----------+-------------+
            | a name of | what it is  |
            +-----------+-------------+

            Too short to keep.
            """,
            [],
        ),
    ],
)
def test_docstrings_become_plain_paragraphs(docstring, paragraphs):
    assert extract_paragraphs(docstring) == paragraphs


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Uses numpy.linalg.norm and np.sum of NumPy.", "Uses library and library of library"),
        ("A PyTorch tensor, torch.Tensor", "A library tensor, library"),
        ("scikit-learn or sklearn, plt.show()", "library or library, library()"),
        ("a SymPy expression; see PEP 484", "a library expression; see library"),
        ("an NP-complete problem, concatenated, at once", None),
        ("npx sump simply implant", None),
    ],
)
def test_names_of_libraries_are_masked(text, masked):
    assert mask_names(text) == (masked or text)


@settings(deadline=None)
@given(st.lists(st.integers(1, 250), max_size=12))
def test_chunks_have_30_to_100_words_in_their_order(lengths):
    words = iter(range(10**6))
    paragraphs = [" ".join(str(next(words)) for _ in range(length)) for length in lengths]
    chunks = [[int(word) for word in chunk.split()] for chunk in cut_chunks(paragraphs)]
    assert all(30 <= len(chunk) <= 100 for chunk in chunks)
    assert all(chunk == list(range(chunk[0], chunk[-1] + 1)) for chunk in chunks)
    assert all(left[-1] < right[0] for left, right in pairwise(chunks))
    if 30 <= sum(lengths) <= 100:
        assert len(chunks) == 1


def test_examples_are_capped_for_each_label_whatever_their_order():
    examples = [(label, f"text {number}") for label in ("a", "b") for number in range(9)]
    kept = choose_examples([*examples, ("c", "one")], 4)
    assert Counter(label for label, _ in kept) == {"a": 4, "b": 4, "c": 1}
    assert kept == choose_examples([("c", "one"), *reversed(examples)], 4)
    assert [label for label, _ in kept] != sorted(label for label, _ in kept)


def test_nine_of_ten_modules_are_for_training_and_half_of_these_are_taken():
    counts = Counter(make_corpus.choose_split(f"package.module{i}") for i in range(4000))
    assert counts["train"] == pytest.approx(1800, abs=120)
    assert counts["valid"] == pytest.approx(200, abs=50)
    assert counts[None] == pytest.approx(1800, abs=120)
    # modules must stay where they are: a split that moves would leak into training
    assert make_corpus.choose_split("torch.nn.functional") == "train"


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two small packages in place of the installed ones."""
    for package in ("numpy", "other"):
        for number in range(60):
            module = tmp_path / "lib" / package / f"part{number}" / "__init__.py"
            module.parent.mkdir(parents=True)
            own = f"This is the text of module {number} in {package}, which is not in the others. "
            module.write_text(f'"""{LONG}\n\n{own * 2}\n"""\n')
        tests = tmp_path / "lib" / package / "tests"
        tests.mkdir()
        (tests / "test_it.py").write_text(f'"""{LONG} But in the tests."""')
    monkeypatch.setattr(docstrings, "find_roots", lambda package: [tmp_path / "lib" / package])
    monkeypatch.setattr(make_corpus, "PACKAGES", ("numpy", "other"))


def test_modules_are_found_without_tests(packages):
    names = [module.name for module in find_modules("numpy")]
    assert len(names) == 60
    assert "numpy.part7" in names


def test_a_package_that_is_not_installed_has_no_modules():
    assert list(find_modules("no_such_package")) == []


def test_the_corpus(tmp_path, packages, monkeypatch, capsys):
    for name in ("one", "two"):
        monkeypatch.setattr(sys, "argv", ["make_corpus.py", str(tmp_path / name)])
        make_corpus.main()
    texts = {split: (tmp_path / "one" / f"{split}.txt").read_text() for split in make_corpus.SPLITS}
    lines = [line for text in texts.values() for line in text.split("\n") if line]
    taken = [
        module.name
        for package in ("numpy", "other")
        for module in find_modules(package)
        if make_corpus.choose_split(module.name) is not None
    ]
    assert 40 < len(taken) < 2 * 60
    assert len(lines) == len(set(lines)) == 1 + len(taken)  # LONG once, and each module's own
    assert sum(text.count("\n\n") for text in texts.values()) == len(taken)
    assert all(texts.values())
    assert not any("tests" in line for line in lines)
    for split in make_corpus.SPLITS:
        for folder in ("one", "two"):
            rows = (tmp_path / folder / "library" / f"{split}.tsv").read_text()
            assert rows == (tmp_path / "one" / "library" / f"{split}.tsv").read_text()
        for row in rows.splitlines():
            label, text = row.split("\t")
            assert label == "numpy"
            assert "numpy" not in text
            assert text.removeprefix(LONG).strip().replace("library", "numpy") in texts[split]
    table = capsys.readouterr().out
    assert "other" in table
    assert "library examples" in table


def test_swapped_words_are_of_their_own_split(tmp_path, packages, monkeypatch, capsys):
    monkeypatch.setitem(make_corpus.SWAPPED, "train", 30)  # of about 50
    for name in ("one", "two"):
        monkeypatch.setattr(sys, "argv", ["make_corpus.py", str(tmp_path / name)])
        make_corpus.main()
    counts = []
    for split in make_corpus.SPLITS:
        path = tmp_path / "one" / "swapped" / f"{split}.txt"
        assert path.read_text() == (tmp_path / "two" / "swapped" / f"{split}.txt").read_text()
        sentences = read_conll(path)
        paragraphs = (tmp_path / "one" / f"{split}.txt").read_text().split("\n")
        bags = {" ".join(sorted(text.split())) for text in paragraphs}  # swaps change none
        ours = {" ".join(sorted(sentence.words)) for sentence in sentences}
        assert ours <= bags
        assert len(ours) == len(sentences)
        assert not {" ".join(sentence.words) for sentence in sentences} & set(paragraphs)
        counts.append(len(sentences))
    assert counts[0] == 30
    assert all(counts)
    *_, last = capsys.readouterr().out.rstrip().split("\n")
    assert last.split() == ["paragraphs", "with", "swapped", "words", *map(str, counts)]


def test_a_corpus_that_is_there_is_kept(tmp_path, packages, monkeypatch):
    (tmp_path / "train.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["make_corpus.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="exists already"):
        make_corpus.main()
    assert (tmp_path / "train.txt").read_text() == "mine"


def test_labels_are_packages_of_the_corpus():
    assert set(LABELS) <= set(docstrings.PACKAGES)
