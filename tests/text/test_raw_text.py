"""Raw text: every kind of file that is read, and every kind that is refused."""

import gzip
import lzma

import pytest

from fairseq_electra.text.raw_text import MAX_LINE, read_lines

TEXT = "first paragraph\nsecond é\n\nnext document\n"
LINES = ["first paragraph", "second é", "", "next document"]


def compress_gz(text: bytes) -> bytes:
    """gzip without the time of day, so that every worker of pytest-xdist sees the same test ids."""
    return gzip.compress(text, mtime=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", TEXT.encode()),
        ("no_last_newline.txt", TEXT.rstrip().encode()),
        ("windows.txt", ("\ufeff" + TEXT.replace("\n", " \r\n")).encode()),
        ("a.txt.gz", compress_gz(TEXT.encode())),
        ("two_members.gz", compress_gz(TEXT[:9].encode()) + compress_gz(TEXT[9:].encode())),
        ("a.txt.xz", lzma.compress(TEXT.encode())),
    ],
)
def test_text_is_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert list(read_lines(tmp_path / name)) == LINES


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("latin.txt", "one\ntwo é".encode("latin-1"), "line 2, byte 5: not UTF-8"),
        ("utf16.txt", TEXT.encode("utf-16"), "line 1, byte 1: not UTF-8"),
        ("empty.txt", b"", "holds no text"),
        ("blank.txt", "\n \t\n\u00a0\r\n".encode(), "holds no text"),
        ("empty.gz", compress_gz(b""), "holds no text"),
        ("endless.txt", b"one\n" + b"x" * MAX_LINE + b"\n", "line 2: has 1000000 bytes or more"),
        ("endless.gz", compress_gz(b"x" * 3 * MAX_LINE), "line 1: has 1000000 bytes or more"),
        ("cut.gz", compress_gz(TEXT.encode() * 99)[:-20], "broken .gz"),
        ("plain.gz", TEXT.encode(), "broken .gz"),
        ("zero_byte.gz", b"", "holds no text"),
        ("cut.xz", lzma.compress(TEXT.encode() * 99)[:-20], "broken .xz"),
        ("plain.xz", TEXT.encode(), "broken .xz"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, name, content, complaint):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as error:
        list(read_lines(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none\.txt cannot be read"):
        list(read_lines(tmp_path / "none.txt"))
    with pytest.raises(ValueError, match="is a folder"):
        list(read_lines(tmp_path))


def test_a_line_just_short_enough_is_read(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * (MAX_LINE - 1) + b"\n")
    assert [len(line) for line in read_lines(tmp_path / "a.txt")] == [MAX_LINE - 1]
