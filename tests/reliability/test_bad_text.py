"""Bytes that are no text, or odd text, in files that a user gives: read whole, or refused by name.

`EXAMPLES=5000 pytest tests/reliability/test_bad_text.py` tries that many of each.
"""

import gzip
import json
import lzma
import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairseq_electra.data.conll import DOCSTART, read_conll, split_columns
from fairseq_electra.data.squad import read_squad
from fairseq_electra.data.tokenizer import BERT_SPECIALS, INFO_FILE, load_tokenizer, load_wordpiece
from fairseq_electra.text.prepare_task import read_table
from fairseq_electra.text.raw_text import read_lines
from fairseq_electra.text.tokenize_text import split_documents
from scripts.glue.tasks import TASKS, read_split

EXAMPLES = int(os.environ.get("EXAMPLES", 60))
tried = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ODD = [
    *("\x00", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u200b", "\u200f", "\u202e", "\ufeff"),
    *("\u00a0", "\u0301", "\u05d0\u05d1", "\U0001f468\u200d\U0001f469", "\U000e0001", "\ufffd"),
    *("\r", "\n", "\n\n", "\r\n", "\t", " ", '"', "-DOCSTART- O", "a b", "0\t", "1\t", "word"),
]
TEXTS = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=4)), max_size=20).map("".join)
CONTENTS = st.one_of(
    st.binary(max_size=60), TEXTS.map(lambda text: text.encode("utf-8", "replace"))
)


def read_or_name(read, path, content: bytes):
    """What `read` gives for a file of this content; None if it is refused by name."""
    path.write_bytes(content)
    try:
        return read(path)
    except ValueError as error:
        assert str(path) in str(error)
        assert type(error) is ValueError  # and not, for example, a UnicodeDecodeError
        return None


def list_lines(content: bytes):
    """Lines with their ends, "" last where the file ends in one."""
    *lines, rest = content.decode().split("\n")
    return [*(line + "\n" for line in lines), rest]


@tried
@given(CONTENTS)
def test_raw_lines(tmp_path, content):
    lines = read_or_name(lambda path: list(read_lines(path)), tmp_path / "raw.txt", content)
    if lines is None:
        return
    wanted = list_lines(content)
    assert lines == [line.strip("\ufeff").strip() for line in wanted][: len(lines)]
    assert len(wanted) - len(lines) <= 1  # what follows the last line's end, ""


@tried
@given(CONTENTS)
def test_documents_keep_every_line(tmp_path, content):
    def read(path):
        return list(split_documents([path, path], lambda document: str(document % 2)))

    documents = read_or_name(read, tmp_path / "raw.txt", content)
    if documents is not None:
        texts = [line for line in read_lines(tmp_path / "raw.txt") if line]
        assert [text for _, text in documents if text] == 2 * texts
        assert documents[-1][1] == ""


@pytest.mark.parametrize("suffix, compress", [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_damaged_archives(tmp_path, suffix, compress):
    """Damaged at random; their checksums tell, unless the damage is where it means nothing."""
    text = "".join(f"line {number}\n" for number in range(50))
    whole = compress(text.encode())
    for case in range(EXAMPLES):
        rng = random.Random(case)
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= rng.randint(1, 255)
        del content[rng.choice([len(whole), rng.randrange(len(whole))]) :]
        path = tmp_path / f"raw{suffix}"
        lines = read_or_name(lambda path: list(read_lines(path)), path, bytes(content))
        assert lines is None or lines == text.splitlines(), case


@tried
@given(CONTENTS)
def test_conll(tmp_path, content):
    sentences = read_or_name(read_conll, tmp_path / "train.txt", content)
    if sentences is None:
        return
    rows = [split_columns(line) for line in content.decode("utf-8-sig").split("\n")]
    rows = [row for row in rows if row and row[0] != DOCSTART]
    assert [word for sentence in sentences for word in sentence.words] == [row[0] for row in rows]
    assert [tag for sentence in sentences for tag in sentence.tags] == [row[-1] for row in rows]


SPECIALS = "".join(f"{name}\n" for name in BERT_SPECIALS).encode()
JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["data", "paragraphs", "context", "qas"]), inner),
        st.dictionaries(st.sampled_from(["id", "question", "answers", "is_impossible"]), inner),
        st.dictionaries(st.sampled_from(["kind", "file", "cased"]), inner),
    ),
    max_leaves=12,
)


@tried
@given(st.one_of(CONTENTS, JSONS.map(lambda value: json.dumps(value).encode())))
def test_squad(tmp_path, content):
    squad = read_or_name(read_squad, tmp_path / "train.json", content)
    assert squad is None or squad.questions


@pytest.mark.parametrize(
    "content", [b"[" * 200_000, b"1" * 10_000, b'{"data": 1e999}', b"\xff\xfe[]"]
)
def test_squad_of_json_that_breaks_parsers(tmp_path, content):
    assert read_or_name(read_squad, tmp_path / "train.json", content) is None


@tried
@given(CONTENTS, st.sampled_from([1, 2]))
def test_labels_and_texts(tmp_path, content, sentences):
    table = read_or_name(lambda path: read_table(path, sentences), tmp_path / "train.tsv", content)
    if table is not None:
        lines = [line.strip("\ufeff").strip() for line in list_lines(content)]
        assert len(table.labels) == len(table.texts) == sum(map(bool, lines))


@tried
@given(CONTENTS, st.sampled_from(sorted(TASKS)), st.booleans())
def test_glue_files(tmp_path, content, name, labelled):
    """Every row is read or reported; the header is the task's."""
    task = TASKS[name]
    columns = (*task.texts, task.label)
    head = "" if labelled and task.headless else "\t".join(columns) + "\n"
    content = head.encode() + content

    def read(path):
        return read_split(path, task, labelled)

    found = read_or_name(read, tmp_path / "train.tsv", content)
    if found is not None:
        rows = [row.strip("\ufeff").rstrip("\r\n") for row in list_lines(content)]
        assert len(found[0].texts) + len(found[1]) == sum(map(bool, rows)) - bool(head)


@tried
@given(st.one_of(CONTENTS, JSONS.map(lambda value: json.dumps(value).encode())))
def test_a_tokenizer_folder(tmp_path, content):
    """What describes the tokenizer is garbage: it is named."""
    (tmp_path / INFO_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="is damaged") as raised:
        load_tokenizer(tmp_path)
    assert str(tmp_path / INFO_FILE) in str(raised.value)


@tried
@given(st.one_of(CONTENTS, CONTENTS.map(lambda content: SPECIALS + content)))
def test_a_vocabulary(tmp_path, content):
    """Refused by name, or it reads any text."""
    tokenizer = read_or_name(load_wordpiece, tmp_path / "vocab.txt", content)
    assert tokenizer is None or len(tokenizer.encode_lines(["a \u05d0", "\x00"])) == 2
