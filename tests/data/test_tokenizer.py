"""Text to pieces and back: known answers, special symbols in text, dict.txt, bad files."""

import io
import json
from unittest import mock

import pytest
import sentencepiece
from fairseq.data import Dictionary
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.data.tokenizer import (
    BERT_SPECIALS,
    RESERVED,
    SentencePieceTokenizer,
    WordPieceTokenizer,
    load_tokenizer,
    load_wordpiece,
)

WORDS = "< > / [ ] . , ! mask pad unk cls sep s the un ##aff ##able cafe Cafe ##s a b ##a ##b"
VOCABULARY = [*BERT_SPECIALS[:4], "[unused0]", BERT_SPECIALS[4], *WORDS.split()]
TEXTS = ["the cafe is unaffable", "a mask, the <mask> and [MASK]", "</s> <s> pads and unks"]


def make_wordpiece(cased: bool = False) -> WordPieceTokenizer:
    return WordPieceTokenizer(("\n".join(VOCABULARY) + "\n").encode(), cased)


@pytest.fixture(scope="module")
def sentencepiece_model() -> bytes:
    return train_model()


def train_model(**options) -> bytes:
    """A small SentencePiece model that has a piece for every character of TEXTS."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 9),
        model_writer=model,
        vocab_size=45,
        hard_vocab_limit=False,
        character_coverage=1.0,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("The unaffable Cafés!", ["the", "un", "##aff", "##able", "cafe", "##s", "!"]),
        ("ab xyz a", ["a", "##b", "<unk>", "a"]),
        ("  the\tthe\u00a0the\u2028the ", ["the", "the", "the", "the"]),
        ("a\x00b a\x1cb", ["a", "##b", "a", "##b"]),
        ("", []),
        ("\x01", []),
    ],
)
def test_wordpiece_follows_bert(text, pieces):
    assert make_wordpiece().encode(text) == pieces


def test_case_is_kept_only_where_asked():
    assert make_wordpiece(cased=False).encode("Cafe") == ["cafe"]
    assert make_wordpiece(cased=True).encode("Cafe cafe") == ["Cafe", "cafe"]


def test_special_symbols_in_text_are_words_to_wordpiece():
    encode = make_wordpiece().encode
    assert " ".join(encode("[MASK] <mask> </s>")) == "[ mask ] < mask > < / s >"
    assert " ".join(encode("[PAD] [UNK] <unk>")) == "[ pad ] [ unk ] < unk >"


def test_special_symbols_in_text_are_words_to_sentencepiece(sentencepiece_model):
    tokenizer = SentencePieceTokenizer(sentencepiece_model, cased=False)
    for text in ("<mask>", "a <s> mask", "</s>", "[MASK]"):
        pieces = tokenizer.encode(text)
        assert not set(pieces) & set(RESERVED)
        assert tokenizer.decode(pieces) == text


def test_an_unknown_character_is_unk_to_sentencepiece(sentencepiece_model):
    tokenizer = SentencePieceTokenizer(sentencepiece_model, cased=False)
    pieces = tokenizer.encode("the \u6f22")
    assert pieces.count("<unk>") == 1
    assert tokenizer.decode(pieces) == "the <unk>"


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.text(st.sampled_from("ab \t\u00a0\u0301\u4e00é.Cafethesun\x1c\n"), max_size=30)),
    st.sampled_from([0, 5, 1000]),
)
def test_words_met_before_change_nothing(lines, most_known):
    """Each word is encoded once and remembered; the library's own result is the reference."""
    tokenizer = make_wordpiece()
    with mock.patch("fairseq_electra.data.tokenizer.MOST_KNOWN", most_known):
        for part in (lines[:2], lines[1:], lines):
            expected = [tokenizer.model.encode(line).ids for line in part]
            assert tokenizer.encode_numbers(part) == expected


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_pieces_are_entries_of_the_dictionary(text):
    tokenizer = make_wordpiece()
    assert set(tokenizer.encode(text)) <= {*tokenizer.pieces, "<unk>"}


def test_decode_keeps_mask_and_leaves_out_the_other_specials():
    tokenizer = make_wordpiece()
    pieces = ["<s>", "the", "un", "##aff", "<mask>", "cafe", "##s", ".", "</s>", "<pad>"]
    assert tokenizer.decode(pieces) == "the unaff <mask> cafes."


def test_the_dictionary_has_as_many_entries_as_berts_vocabulary(tmp_path):
    tokenizer = make_wordpiece()
    tokenizer.save(tmp_path)
    dictionary = Dictionary.load(str(tmp_path / "dict.txt"))
    mask = dictionary.add_symbol("<mask>")
    assert mask == len(dictionary) - 1 == len(VOCABULARY) - 1
    # in the vocabulary's order, after fairseq's own four
    assert dictionary.symbols[:6] == ["<s>", "<pad>", "</s>", "<unk>", "[unused0]", "<"]


def test_a_saved_tokenizer_is_the_same(tmp_path, sentencepiece_model):
    for number, tokenizer in enumerate(
        [make_wordpiece(cased=True), SentencePieceTokenizer(sentencepiece_model, cased=False)]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        tokenizer.save(folder)
        loaded = load_tokenizer(folder)
        assert type(loaded) is type(tokenizer)
        assert loaded.pieces == tokenizer.pieces
        assert loaded.cased == tokenizer.cased
        assert loaded.encode_lines(TEXTS) == tokenizer.encode_lines(TEXTS)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([line for line in VOCABULARY if line != "[MASK]"], r"no \[MASK\]"),
        ([*VOCABULARY, "the"], "'the' 2 times"),
        ([*VOCABULARY, "[MASK]"], r"'\[MASK\]' 2 times"),
        ([*VOCABULARY, "<s>"], "'<s>', which fairseq keeps"),
        ([*VOCABULARY, "two words"], "white space"),
        ([*VOCABULARY, "line\u2028end"], "white space"),
        ([*VOCABULARY, "", "z"], "empty"),
        ([*VOCABULARY, "\udcff"], "not UTF-8"),
    ],
)
def test_a_bad_vocabulary_is_refused_by_name(tmp_path, lines, complaint):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=complaint) as error:
        load_wordpiece(path)
    assert str(path) in str(error.value)


def test_a_missing_vocabulary_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.txt: cannot be read"):
        load_wordpiece(tmp_path / "nothing.txt")


def test_a_model_in_which_text_can_become_mask_is_refused():
    with pytest.raises(ValueError, match="'<mask>', which fairseq keeps"):
        SentencePieceTokenizer(train_model(user_defined_symbols="<mask>"), cased=False)


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_a_damaged_tokenizer_is_refused(tmp_path, sentencepiece_model):
    SentencePieceTokenizer(sentencepiece_model, cased=False).save(tmp_path)
    (tmp_path / "sentencepiece.model").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"sentencepiece\.model is damaged"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "info",
    [
        {"kind": "other", "file": "vocab.txt", "cased": True},
        {"kind": ["wordpiece"], "file": "vocab.txt", "cased": True},
        {"kind": "wordpiece", "file": "../vocab.txt", "cased": True},
        {"kind": "wordpiece", "file": "vocab.txt", "cased": "yes"},
        {"file": "vocab.txt", "cased": True},
        ["wordpiece"],
    ],
)
def test_what_describes_no_tokenizer_is_refused(tmp_path, info):
    make_wordpiece().save(tmp_path)
    (tmp_path / "tokenizer_info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"tokenizer_info\.json is damaged: .* no tokenizer"):
        load_tokenizer(tmp_path)


def test_another_dictionary_is_refused(tmp_path):
    make_wordpiece().save(tmp_path)
    lines = (tmp_path / "dict.txt").read_text().splitlines()
    (tmp_path / "dict.txt").write_text("\n".join(reversed(lines)))
    with pytest.raises(ValueError, match=r"dict\.txt does not list"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("The unaffable Cafés!", ["The", "un", "aff", "able", "Café", "s", "!"]),
        (" ab\t\u4e2d \U0001f600 a", ["a", "b", "\u4e2d", "\U0001f600", "a"]),
        ("cafe\u0301 \u00a0the", ["cafe\u0301", "the"]),
        ("", []),
        ("\x01", []),
    ],
)
def test_spans_of_wordpiece(text, parts):
    pieces, spans = make_wordpiece().encode_with_spans(text)
    assert pieces == make_wordpiece().encode(text)
    assert [text[start:end] for start, end in spans] == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Unaffable  the\n", ["Unaffable", "the"]),
        # both pieces of the ligature come from it; an emoji and Chinese are unknown
        ("mask \ufb01k", ["mask", "", "\ufb01", "\ufb01", "k"]),
        ("\u00a0the \U0001f600\u2028mask", ["the", "", "\U0001f600", "mask"]),
        ("\u4e2da", ["", "\u4e2d", "a"]),
        ("", []),
        (" \x01 ", []),
    ],
)
def test_spans_of_sentencepiece(sentencepiece_model, text, parts):
    """Pieces of one word are joined where they make up one part."""
    tokenizer = SentencePieceTokenizer(sentencepiece_model, cased=False)
    pieces, spans = tokenizer.encode_with_spans(text)
    assert pieces == tokenizer.encode(text)
    assert "".join(text[start:end] for start, end in spans) == "".join(parts)
    own = [text[start:end] for start, end in spans]
    assert "" not in own or pieces[own.index("")] == "\u2581"


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_spans_of_any_text(sentencepiece_model, text):
    """The pieces of `encode`, in order, without white space, and no character of a word is lost."""
    for tokenizer in (make_wordpiece(), SentencePieceTokenizer(sentencepiece_model, cased=False)):
        try:
            expected = tokenizer.encode(text)
        except UnicodeEncodeError:  # a lone surrogate
            continue
        pieces, spans = tokenizer.encode_with_spans(text)
        assert pieces == expected
        assert len(spans) == len(pieces)
        assert all(0 <= start <= end <= len(text) for start, end in spans)
        assert spans == sorted(spans)
        for start, end in spans:
            assert text[start:end] == text[start:end].strip()
        covered = {place for start, end in spans for place in range(start, end)}
        missed = {text[place] for place in range(len(text)) if place not in covered}
        assert not any(char.isascii() and char.isalnum() for char in missed)
