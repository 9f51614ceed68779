"""Tagged words to examples: first pieces, cuts at words, batches, joining of predictions."""

import pytest
import sentencepiece
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_electra.data.conll import Sentence
from fairseq_electra.data.tagging_dataset import TaggingDataset, cut_at_words
from fairseq_electra.data.tokenizer import SentencePieceTokenizer
from tagging_bin import TAGS, make_dictionary, make_tokenizer

I = -100  # noqa: E741 (as wide as a number of a tag)
SENTENCES = [
    Sentence(["w1", "w12", "W3"], ["B-A", "I-A", "O"], [1, 2, 3]),
    Sentence(["\x01", "w7"], ["O", "B-B"], [5, 6]),
    Sentence(["w123456789"], ["I-B"], [8]),
]


def make_dataset(sentences=SENTENCES, max_tokens=8):
    tokenizer = make_tokenizer()
    return TaggingDataset(sentences, tokenizer, make_dictionary(tokenizer), TAGS, max_tokens)


def test_examples_by_hand():
    dataset = make_dataset()
    examples = [
        ([dataset.dictionary[token] for token in example.tokens], example.target.tolist())
        for example in dataset.examples
    ]
    assert examples == [
        (["<s>", "w1", "w1", "##2", "w3", "</s>"], [I, 0, 2, I, 4, I]),
        (["<s>", "<unk>", "w7", "</s>"], [I, 4, 1, I]),
        (["<s>", "w1", "##2", "##3", "##4", "##5", "##6", "</s>"], [I, 3, I, I, I, I, I, I]),
    ]
    assert dataset.counts == (0, 1, 1)
    assert dataset.sizes.tolist() == [6, 4, 8]


def test_a_batch_by_hand():
    dataset = make_dataset()
    batch = dataset.collater([dataset[1], dataset[0]])
    pad = dataset.dictionary.pad()
    assert batch["target"].tolist() == [[I, 4, 1, I, I, I], [I, 0, 2, I, 4, I]]
    assert batch["net_input"]["src_tokens"][0, 4:].tolist() == [pad, pad]
    assert list(batch["net_input"]) == ["src_tokens"]  # token types are all 0
    counts = [batch[name] for name in ("nsentences", "ntokens", "nwords")]
    assert (batch["id"].tolist(), counts) == ([1, 0], [2, 10, 5])
    assert dataset.collater([]) == {}


def test_long_sentences_are_cut_at_words():
    words = ["w1", "w12", "w3", "w14", "w5"]  # 1, 2, 1, 2, 1 pieces
    tags = ["B-A", "I-A", "O", "B-B", "I-B"]
    dataset = make_dataset([Sentence(words, tags, [1] * 5), SENTENCES[1]], max_tokens=5)
    targets = [example.target[1:-1].tolist() for example in dataset.examples]
    assert targets == [[0, 2, I], [4, 1, I], [3], [4, 1]]
    assert dataset.counts.cut_sentences == 1
    predicted = {0: ["a", "b"], 1: ["c", "d"], 2: ["e"], 3: ["f", "g"]}
    assert dataset.join_words(predicted) == [["a", "b", "c", "d", "e"], ["f", "g"]]


@given(st.lists(st.integers(1, 6), min_size=1), st.integers(6, 20))
def test_parts_are_as_long_as_can_be(lengths, limit):
    parts = cut_at_words(lengths, limit)
    words = [word for start, end in parts for word in range(start, end)]
    assert words == list(range(len(lengths)))
    for (start, end), (_, next_end) in zip(parts, [*parts[1:], (0, 0)]):
        assert 0 < sum(lengths[start:end]) <= limit
        if next_end:
            assert sum(lengths[start : end + 1]) > limit


def test_words_without_tags_have_a_place_for_one():
    untagged = [sentence._replace(tags=[]) for sentence in SENTENCES]
    for ours, theirs in zip(make_dataset(untagged).examples, make_dataset().examples):
        assert torch.equal(ours.tokens, theirs.tokens)
        assert torch.equal(ours.target.eq(I), theirs.target.eq(I))


def test_wordpiece_alone_is_wordpiece_in_a_sentence():
    """Punctuation, accents and case included."""
    tokenizer = make_tokenizer()
    words = ["W1", "w2,", "(w3)", "w\u0301w1", "nothing", "w19"]
    sentence = Sentence(words, [], [1] * len(words))
    dataset = make_dataset([sentence], max_tokens=60)
    tokens = [dataset.dictionary[token] for token in dataset.examples[0].tokens]
    assert tokens[1:-1] == tokenizer.encode(" ".join(words))


@pytest.fixture(scope="module")
def sentencepiece_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("".join(f"w{n} one two three seven\n" for n in range(200)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "m"), vocab_size=36, minloglevel=2
    )
    return SentencePieceTokenizer((folder / "m.model").read_bytes(), cased=False)


def test_sentencepiece_marks_every_first_piece(sentencepiece_tokenizer):
    """Each word begins with the mark of a word's start, and the tag stands there."""
    sentence = Sentence(["one", "w17", "twothree"], ["B-A", "I-A", "O"], [1, 2, 3])
    dictionary = make_dictionary(sentencepiece_tokenizer)
    dataset = TaggingDataset([sentence], sentencepiece_tokenizer, dictionary, TAGS, 30)
    (example,) = dataset.examples
    pieces = [dictionary[token] for token in example.tokens]
    firsts = [piece for piece, tag in zip(pieces, example.target) if tag != I]
    assert len(firsts) == 3
    assert all(piece.startswith("\u2581") for piece in firsts)
    assert "".join(pieces[1:-1]).replace("\u2581", " ").split() == sentence.words
