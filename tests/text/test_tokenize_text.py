"""Documents, chunks and processes: what is written is every line, in order, in its split."""

import multiprocessing
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer
from fairseq_electra.text import tokenize_text
from fairseq_electra.text.tokenize_text import (
    pack_chunks,
    split_documents,
    start_worker,
    write_pieces,
)


@pytest.fixture
def tokenizer_dir(tmp_path):
    """A saved tokenizer that knows the letters a to d and two digits."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    pieces = "\n".join([*BERT_SPECIALS, *"abcd01", "##0", "##1"])
    WordPieceTokenizer(pieces.encode(), cased=False).save(folder)
    return folder


def write_files(folder, *texts):
    """Text files and their paths."""
    paths = [folder / f"{number}.txt" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def test_blank_lines_and_files_end_documents(tmp_path):
    paths = write_files(tmp_path, "\n\na\nb\n\n \n\nc", "d\n\n", "a")
    lines = list(split_documents(paths, str))
    assert lines == [
        *[("0", "a"), ("0", "b"), ("0", "")],
        *[("1", "c"), ("1", "")],
        *[("2", "d"), ("2", "")],
        *[("3", "a"), ("3", "")],
    ]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["train", "valid"]), st.sampled_from(["", "a", "bb"]))),
    st.integers(1, 9),
)
def test_chunks_hold_every_line_of_a_split_in_order(lines, size):
    before, tokenize_text.CHUNK = tokenize_text.CHUNK, size
    try:
        documents = Counter()
        chunks = list(pack_chunks(lines, documents))
    finally:
        tokenize_text.CHUNK = before
    for split in ("train", "valid"):
        packed = [line for name, text in chunks if name == split for line in text.split("\n")]
        assert packed == [line for name, line in lines if name == split]
        assert documents[split] == sum(line == (split, "") for line in lines)
    assert all(len(text.replace("\n", "")) <= size + 2 for _, text in chunks)


def test_the_result_does_not_depend_on_chunks_or_processes(tmp_path, tokenizer_dir, monkeypatch):
    text = "".join(f"{'abcd'[i % 4]} {i % 2} c\n" + "\n" * (i % 3 == 0) for i in range(500))
    paths = write_files(tmp_path, text)
    written = []
    for workers, chunk in ((1, 1 << 19), (2, 40)):
        monkeypatch.setattr(tokenize_text, "CHUNK", chunk)
        out = tmp_path / str(workers)
        out.mkdir()
        lines = split_documents(paths, lambda n: "valid" if n % 5 == 0 else "train")
        counts = write_pieces(lines, tokenizer_dir, out, workers)
        written.append([(out / split).read_text() for split in ("train", "valid")])
    assert written[0] == written[1]
    assert "".join(written[0]).count("\n\n") == sum(counts.documents.values()) == 168
    assert sum(counts.pieces.values()) == 3 * 500


def test_only_document_ends_are_blank_lines(tmp_path, tokenizer_dir):
    """What has no pieces, here a control character, must not end a document."""
    paths = write_files(tmp_path, "a\n\x01\nb xyz\n\nc\n")
    counts = write_pieces(split_documents(paths, lambda _: "train"), tokenizer_dir, tmp_path, 1)
    assert (tmp_path / "train").read_text() == "a\n<unk>\nb <unk>\n\nc\n\n"
    assert counts.documents == {"train": 2}
    assert counts.bytes == {"train": len("a\n\x01\nb xyz\n\nc\n")}
    assert counts.unknown == {"train": 2}


def test_an_error_in_the_text_comes_through(tmp_path, tokenizer_dir):
    (tmp_path / "bad.txt").write_bytes(b"a\n\xff\n")
    lines = split_documents([tmp_path / "bad.txt"], lambda _: "train")
    with pytest.raises(ValueError, match=r"bad\.txt, line 2"):
        write_pieces(lines, tokenizer_dir, tmp_path, 1)


def test_a_worker_ends_when_its_parent_is_killed(tokenizer_dir):
    """It would wait for ever otherwise, and keep its memory."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    parent = fork.Process(target=start_pool, args=(tokenizer_dir, sender))
    parent.start()
    worker = receiver.recv()
    assert is_running(worker)
    parent.kill()
    parent.join()
    patience = time.time() + 10
    while is_running(worker) and time.time() < patience:
        time.sleep(0.05)
    assert not is_running(worker)


def start_pool(tokenizer_dir, sender):
    with ProcessPoolExecutor(1, initializer=start_worker, initargs=(tokenizer_dir,)) as pool:
        sender.send(pool.submit(os.getpid).result())
        time.sleep(60)


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
