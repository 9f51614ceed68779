"""fairseq's dictionary against BERT's order of 30 522 pieces."""

import pytest
import torch

from fairseq_electra.conversion.tokenizer_files import read_wordpiece
from fairseq_electra.conversion.vocabulary import (
    foreign_rows,
    invert,
    load_dictionary,
    make_dictionary,
    rename_specials,
    reorder_words,
)
from fairseq_electra.data.tokenizer import RESERVED

# What BERT's uncased vocabulary begins with; specials are at 0 and 100 to 103.
BERT_START = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = ["cafe", "##s", "的", "國", "ü", "ss", "[", "]", "mask", "un", "##aff", "##able"]
BERT = [*BERT_START, *(f"[unused{n}]" for n in range(99, 994)), *TEXT]
BERT += [f"word{n}" for n in range(30522 - len(BERT))]


@pytest.fixture(scope="module")
def dictionary():
    words = rename_specials(BERT)
    return make_dictionary([word for word in words if word not in RESERVED])


def test_every_row_there_and_back(dictionary):
    rows = foreign_rows(BERT, dictionary)
    assert len(BERT) == len(dictionary) == len(set(rows.tolist())) == 30522
    assert rows[:5].tolist() == [101, 0, 102, 100, 1]  # <s> <pad> </s> <unk>, the first unused
    assert rows[-1] == 103  # <mask>
    assert rows[dictionary.index("cafe")] == BERT.index("cafe")
    table = torch.randn(30522, 3)
    tensors = {"embeddings.embed_tokens.weight": table, "generator.head.bias": table[:, 0]}
    tensors["encoder.layers.0.fc1.bias"] = table[:, 1]
    reorder_words(tensors, rows)
    number = dictionary.index("的")
    assert torch.equal(tensors["embeddings.embed_tokens.weight"][number], table[BERT.index("的")])
    reorder_words(tensors, invert(rows))
    assert torch.equal(tensors["embeddings.embed_tokens.weight"], table)
    assert torch.equal(tensors["generator.head.bias"], table[:, 0])
    assert torch.equal(tensors["encoder.layers.0.fc1.bias"], table[:, 1])


@pytest.mark.parametrize(
    ("text", "pieces", "back"),
    [
        ("Cafés", ["cafe", "##s"], "cafes"),
        ("Ü 的國", ["<unk>", "的", "國"], "<unk> 的 國"),
        ("unaffable ☃ ㍿", ["un", "##aff", "##able", "<unk>", "<unk>"], "unaffable <unk> <unk>"),
        ("[MASK]", ["[", "mask", "]"], "[ mask ]"),
        ("word0 word9", ["word0", "word9"], "word0 word9"),
    ],
)
def test_text_to_their_ids_and_back(dictionary, text, pieces, back):
    tokenizer = read_wordpiece(("\n".join(BERT) + "\n").encode(), cased=False).tokenizer
    assert tokenizer.encode(text) == pieces
    rows = foreign_rows(BERT, dictionary)
    numbers = rows[torch.tensor([dictionary.index(piece) for piece in pieces])]
    assert [BERT[number] for number in numbers] == [
        {"<unk>": "[UNK]"}.get(piece, piece) for piece in pieces
    ]
    inverse = invert(rows)
    words = [dictionary[inverse[number].item()] for number in numbers]
    assert tokenizer.decode(words) == back


def test_fairseqs_own_names_and_filling_words(tmp_path):
    """fairseq-preprocess may fill up a dictionary to a multiple of eight."""
    (tmp_path / "dict.txt").write_text("a 3\nb 2\nmadeupword0000 0\n")
    dictionary = load_dictionary(tmp_path / "dict.txt")
    assert dictionary.symbols[-2:] == ["madeupword0000", "<mask>"]
    assert foreign_rows(dictionary.symbols, dictionary).tolist() == list(range(8))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["[MASK]", "[PAD]", "[UNK]", "[CLS]", "a"], r"the vocabulary has no \[SEP\]"),
        (["<s>", "<pad>", "</s>", "<unk>", "a"], "the vocabulary has no <mask>"),
        ([*BERT_START, "a", "a"], "lists 'a' more than once"),
        ([*BERT_START, "<s>"], "lists '<s>' more than once"),
    ],
)
def test_other_vocabularies_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        rename_specials(words)


def test_other_entries_are_named(dictionary):
    with pytest.raises(ValueError, match=r"30523 entries, the dictionary 30522; .*: more$"):
        foreign_rows([*BERT, "more"], dictionary)


def test_a_file_that_is_no_dictionary(tmp_path):
    (tmp_path / "dict.txt").write_text("no counts here\n")
    with pytest.raises(ValueError, match=r"dict\.txt is not a dictionary of fairseq"):
        load_dictionary(tmp_path / "dict.txt")
