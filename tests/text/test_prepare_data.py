"""Raw text to a data-bin: what fairseq reads back, and what is refused without a trace."""

import gzip
import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
from fairseq.data import Dictionary, data_utils

from commands import run_script
from fairseq_electra.__main__ import main
from fairseq_electra.data.tokenizer import BERT_SPECIALS, load_tokenizer
from fairseq_electra.text import prepare_data

SENTENCE = "the quick brown fox jumps over a lazy dog while seven red birds sing"
WORDS = SENTENCE.split()


def make_documents(count: int, seed: int = 1) -> list:
    """Documents of one to three paragraphs."""
    mixed = random.Random(seed)
    return [
        [" ".join(mixed.choices(WORDS, k=9)) + "." for _ in range(mixed.randint(1, 3))]
        for _ in range(count)
    ]


def join_documents(documents: list) -> str:
    return "\n\n".join("\n".join(document) for document in documents) + "\n"


@pytest.fixture
def raw(tmp_path) -> Path:
    path = tmp_path / "raw.txt"
    path.write_text(join_documents(make_documents(201)))
    return path


@pytest.fixture
def vocab(tmp_path) -> Path:
    """A WordPiece vocabulary with a special use of every line."""
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*BERT_SPECIALS, *WORDS, "."]) + "\n")
    return path


@pytest.fixture
def prepare(capsys):
    """Run the script in this process; returns what it printed, or the message it ended with."""

    def run(*words) -> str:
        try:
            main(["prepare-data", *map(str, words), "--workers", "1"])
        except SystemExit as stop:
            return f"{stop.code} {capsys.readouterr().err}"
        return capsys.readouterr().out

    return run


def read_split(folder: Path, split: str) -> list:
    """Documents of a data-bin as text."""
    dictionary = Dictionary.load(str(folder / "dict.txt"))
    tokenizer = load_tokenizer(folder)
    documents = [[]]
    for item in data_utils.load_indexed_dataset(str(folder / split), dictionary):
        assert item[-1] == dictionary.eos()
        if len(item) == 1:
            documents.append([])
        else:
            pieces = [dictionary[i] for i in item[:-1]]
            documents[-1].append(tokenizer.decode(pieces))
    assert documents.pop() == []  # each document ends with a blank line
    return documents


def read_files(folder: Path) -> dict:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_wordpiece_data_is_the_text(tmp_path, raw, vocab, prepare):
    output = prepare(tmp_path / "bin", raw, "--vocab", vocab)
    documents = make_documents(201)
    assert read_split(tmp_path / "bin", "valid") == [documents[i] for i in (0, 100, 200)]
    assert read_split(tmp_path / "bin", "train") == documents[1:100] + documents[101:200]
    assert "every 100th document" in output
    assert (tmp_path / "bin" / "vocab.txt").read_bytes() == vocab.read_bytes()
    assert len(Dictionary.load(str(tmp_path / "bin" / "dict.txt"))) == len(WORDS) + 1 + 4


def test_sentencepiece_data_is_the_text(tmp_path, raw, prepare):
    (tmp_path / "more.txt.gz").write_bytes(
        gzip.compress(join_documents(make_documents(5, 2)).encode())
    )
    (tmp_path / "valid.txt").write_text(join_documents(make_documents(4, 3)))
    (tmp_path / "test.txt").write_text(join_documents(make_documents(3, 4)))
    prepare(
        *(tmp_path / "bin", raw, tmp_path / "more.txt.gz", "--vocab-size", "80"),
        *("--valid", tmp_path / "valid.txt", "--test", tmp_path / "test.txt"),
    )
    folder = tmp_path / "bin"
    assert read_split(folder, "train") == make_documents(201) + make_documents(5, 2)
    assert read_split(folder, "valid") == make_documents(4, 3)
    assert read_split(folder, "test") == make_documents(3, 4)
    assert len(Dictionary.load(str(folder / "dict.txt"))) == 80 - 1  # <mask> comes later


def test_another_data_bins_tokenizer_gives_the_same_numbers(tmp_path, raw, vocab, prepare):
    prepare(tmp_path / "first", raw, "--vocab", vocab)
    prepare(tmp_path / "second", raw, "--tokenizer", tmp_path / "first")
    assert read_files(tmp_path / "first") == read_files(tmp_path / "second")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["raw.txt", "missing.txt"], "missing.txt cannot be read"),
        (["raw.txt", "--valid", "missing.txt"], "missing.txt cannot be read"),
        (["raw.txt", "empty.txt"], "empty.txt holds no text"),
        (["raw.txt", "late_error.txt"], "late_error.txt, line 500, byte 1: not UTF-8"),
        (["one_document.txt"], "--valid FILE"),
        (["raw.txt", "--vocab", "raw.txt"], "is it a BERT vocab.txt?"),
        (["raw.txt", "--vocab-size", "90000"], "--vocab-size 90000 is too large"),
        (["raw.txt", "--vocab-size", "0"], "0 is not above 0"),
        (["raw.txt", "--valid", "raw.txt"], "raw.txt is training text as well"),
        (["raw.txt", "--tokenizer", "."], "holds no tokenizer"),
        (["raw.txt", "--tokenizer", ".", "--cased"], "--cased"),
        (["raw.txt", "--tokenizer", ".", "--vocab", "vocab.txt"], "not allowed with"),
    ],
)
def test_bad_input_is_named_and_nothing_is_made(
    tmp_path, raw, vocab, prepare, monkeypatch, words, complaint
):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "late_error.txt").write_bytes(b"the fox\n" * 499 + b"\xff\n")
    (tmp_path / "one_document.txt").write_text("the fox\nthe dog\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    if not {"--vocab", "--vocab-size", "--tokenizer"} & set(words):
        words = ["--vocab", "vocab.txt", *words]
    assert complaint in prepare("bin", *words)
    assert sorted(tmp_path.iterdir()) == before


def test_a_wrong_name_is_found_before_the_work(tmp_path, raw, prepare, monkeypatch):
    monkeypatch.setattr(prepare_data, "make_tokenizer", lambda args: pytest.fail("too early"))
    missing = tmp_path / "missing.txt"
    assert f"{missing} cannot be read" in prepare(tmp_path / "bin", raw, "--test", missing)


def test_data_that_is_there_is_kept(tmp_path, raw, vocab, prepare):
    prepare(tmp_path / "bin", raw, "--vocab", vocab)
    before = read_files(tmp_path / "bin")
    assert "exists already" in prepare(tmp_path / "bin", raw, "--vocab-size", "80")
    assert read_files(tmp_path / "bin") == before


def test_a_killed_run_leaves_no_data_bin_and_does_not_block_the_next(tmp_path, raw, vocab, prepare):
    options = (tmp_path / "bin", raw, "--vocab", vocab)
    run = multiprocessing.get_context("fork").Process(target=prepare, args=options)
    run.start()
    while not list(tmp_path.glob("bin.partial-*/pieces")):
        assert run.is_alive()
        time.sleep(0.001)
    run.kill()
    run.join()
    assert run.exitcode == -signal.SIGKILL
    assert not (tmp_path / "bin").exists()
    assert "every 100th document" in prepare(*options)
    assert len(read_split(tmp_path / "bin", "train")) == 198


def test_the_shell_command(tmp_path, raw, vocab):
    run_script("prepare_data.sh", "--vocab", vocab, tmp_path / "bin", raw, "--workers", "2")
    assert read_split(tmp_path / "bin", "valid")[0] == make_documents(1)[0]


@pytest.mark.parametrize("option", [(), ("--valid",), ("--test",)])
def test_text_without_pieces_is_refused(tmp_path, raw, vocab, prepare, option):
    """Control characters: it would be a data-bin of <unk> alone."""
    empty = tmp_path / "control.txt"
    empty.write_text("\x01\x02\n\x03\n\n" * 150)
    files = (*option, empty, raw) if option else (empty,)
    output = prepare(tmp_path / "bin", *files, "--vocab", vocab)
    split = option[0][2:] if option else "valid"  # the first document is held out
    assert f"{empty}: the {split} text has no pieces" in output
    assert not (tmp_path / "bin").exists()
