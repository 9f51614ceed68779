"""Hugging Face's AutoTokenizer gives our ids, for WordPiece and SentencePiece."""

# ruff: noqa: RUF001 (letters of other scripts)

import io
import json
import random

import pytest
import sentencepiece

pytest.importorskip("transformers", reason="needs the extra hf")

from transformers import AutoTokenizer, BertTokenizer

from fairseq_electra.conversion.tokenizer_files import (
    list_words,
    read_foreign,
    write_tokenizer,
)
from fairseq_electra.conversion.vocabulary import foreign_rows, make_dictionary
from fairseq_electra.data.tokenizer import SentencePieceTokenizer, WordPieceTokenizer, unify_spaces
from foreign import TEXTS, VOCABULARY

LANGUAGES = [
    "The quick brown fox jumps over the lazy dog.",
    "El niño comió piñas; ¿dónde está Ángel?",
    "Der Fußgänger: GRÖẞER, Straße!",
    "我们喜欢学习中文，今天天气很好。",
    "今日は東京タワーへ行きました。ガギグ",
    "Привет, как дела? Ёлка О\u0301сень",
    "مرحبا بالعالم كيف حالك",
    "नमस्ते दुनिया कि",
    "안녕하세요 세계 \u1112\u1161\u11ab",
    "ﬁne ﬂow ½ ① Ａｂｃ ㍿",
    "שלום עולם",
    "Cafe\u0301 CAFE\u0301 E\u0302\u0301 ŏ\u0301",
    "👩\u200d👩\u200d👧 🏳️\u200d🌈 👍🏽 soft\u00adhyphen \ufeff zero\u200bwidth",
    "  white\tspace\u00a0\u3000all \u0085 over\x1c ",
    "<s> <mask> </s> <pad> [MASK] [CLS]",
    "",
]


def train(rule: str, **options) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([unify_spaces(line) for line in LANGUAGES] * 9),
        model_writer=model,
        hard_vocab_limit=False,
        character_coverage=0.98,
        normalization_rule_name=rule,
        minloglevel=2,
        **{"vocab_size": 400, "unk_id": 0, "bos_id": -1, "eos_id": -1, **options},
    )
    return model.getvalue()


@pytest.fixture(params=["nmt_nfkc_cf", "nmt_nfkc", "identity", "with specials"])
def pieces(request):
    """A SentencePiece tokenizer; one has control pieces of its own, as models from elsewhere do."""
    if request.param == "with specials":
        return SentencePieceTokenizer(train("nmt_nfkc", unk_id=2, bos_id=0, eos_id=1), True)
    return SentencePieceTokenizer(train(request.param), cased=request.param != "nmt_nfkc_cf")


@pytest.fixture(params=[False, True], ids=["uncased", "cased"])
def wordpiece(request):
    return WordPieceTokenizer(("\n".join(VOCABULARY) + "\n").encode(), cased=request.param)


def write(tokenizer, folder):
    """Our dictionary, the words in Hugging Face's order, and their tokenizer."""
    dictionary = make_dictionary(tokenizer.pieces)
    words = list_words(tokenizer, dictionary)
    write_tokenizer(folder, tokenizer, words, 64)
    (folder / "config.json").write_text('{"model_type": "electra"}')
    return dictionary, words, AutoTokenizer.from_pretrained(folder)


def expect(tokenizer, dictionary, words, text):
    """Our ids of a text, framed, by Hugging Face's numbers."""
    rows = foreign_rows(words, dictionary).tolist()
    names = ["<s>", *tokenizer.encode(text), "</s>"]
    return [rows[dictionary.index(name)] for name in names]


@pytest.mark.parametrize("text", LANGUAGES)
def test_sentencepiece(pieces, tmp_path, text):
    dictionary, words, theirs = write(pieces, tmp_path)
    assert theirs(text)["input_ids"] == expect(pieces, dictionary, words, text)


@pytest.mark.parametrize("text", [*LANGUAGES, *TEXTS])
def test_wordpiece(wordpiece, tmp_path, text):
    dictionary, words, theirs = write(wordpiece, tmp_path)
    assert words == VOCABULARY
    assert theirs(text)["input_ids"] == expect(wordpiece, dictionary, words, text)


def test_mixed_text(pieces, tmp_path):
    """Words of all languages at random, 200 lines."""
    dictionary, words, theirs = write(pieces, tmp_path)
    known = [word for line in LANGUAGES for word in line.split()]
    generator = random.Random(5)
    lines = [" ".join(generator.choices(known, k=8)) for _ in range(200)]
    expected = [expect(pieces, dictionary, words, line) for line in lines]
    assert theirs(lines)["input_ids"] == expected


def test_pairs_specials_and_padding(wordpiece, tmp_path):
    _, words, theirs = write(wordpiece, tmp_path)
    encoded = theirs("a", "b c", padding="max_length", max_length=8)
    names = ["[CLS]", "a", "[SEP]", "b", "c", "[SEP]", "[PAD]", "[PAD]"]
    assert [words[number] for number in encoded["input_ids"]] == names
    assert encoded["token_type_ids"] == [0, 0, 0, 1, 1, 1, 0, 0]
    assert encoded["attention_mask"] == [1] * 6 + [0] * 2
    assert (theirs.mask_token, theirs.unk_token) == ("[MASK]", "[UNK]")
    assert len(theirs) == len(VOCABULARY)
    assert theirs.model_max_length == 64


def test_one_text_differs(pieces, tmp_path):
    """Known difference: a Unigram model takes the text "<unk>" for its entry of that name."""
    _, words, theirs = write(pieces, tmp_path)
    encoded = theirs("<unk>", add_special_tokens=False)["input_ids"]
    assert words.index("<unk>") in encoded
    assert "<unk>" not in pieces.encode("<unk>")


def test_ours_come_back(pieces, wordpiece, tmp_path):
    for number, tokenizer in enumerate((pieces, wordpiece)):
        folder = tmp_path / str(number)
        folder.mkdir()
        _, words, _ = write(tokenizer, folder)
        foreign = read_foreign(folder)
        assert foreign.words == words
        assert type(foreign.tokenizer) is type(tokenizer)
        assert foreign.tokenizer.content == tokenizer.content
        assert foreign.tokenizer.cased == tokenizer.cased


def test_files_that_transformers_saves(wordpiece, tmp_path):
    """Its own class for ELECTRA writes tokenizer.json alone."""
    (tmp_path / "vocab.txt").write_bytes(wordpiece.content)
    theirs = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=not wordpiece.cased)
    theirs.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved/vocab.txt").exists()
    foreign = read_foreign(tmp_path / "saved")
    assert foreign.words == VOCABULARY
    assert (foreign.tokenizer.kind, foreign.tokenizer.cased) == ("wordpiece", wordpiece.cased)


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe"},
        {"byte_fallback": True, "vocab_size": 700},
        {"user_defined_symbols": ["<x>"]},
    ],
)
def test_other_sentencepiece_models_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match="not a plain unigram model"):
        write(SentencePieceTokenizer(train("nmt_nfkc", **options), True), tmp_path)


def edit(folder, change):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_foreign_files_that_cannot_be_used(wordpiece, pieces, tmp_path):
    with pytest.raises(ValueError, match=r"has neither tokenizer\.json nor vocab\.txt"):
        read_foreign(tmp_path)
    write(wordpiece, tmp_path)
    edit(tmp_path, lambda content: content["normalizer"].update(strip_accents=False))
    with pytest.raises(ValueError, match="strip_accents is False, not None"):
        read_foreign(tmp_path)
    edit(tmp_path, lambda content: content["model"]["vocab"].update(more=9999))
    with pytest.raises(ValueError, match="have gaps"):
        read_foreign(tmp_path)
    edit(tmp_path, lambda content: content.update(model={"type": "BPE", "vocab": {"a": 0}},
                                                  added_tokens=[]))  # fmt: skip
    with pytest.raises(ValueError, match="a BPE tokenizer cannot be converted"):
        read_foreign(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model"')
    with pytest.raises(ValueError, match=r"tokenizer\.json: not readable as JSON"):
        read_foreign(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        read_foreign(tmp_path)
    write(pieces, tmp_path)
    (tmp_path / "sentencepiece.model").unlink()
    with pytest.raises(ValueError, match=r"a Unigram tokenizer without sentencepiece\.model"):
        read_foreign(tmp_path)
