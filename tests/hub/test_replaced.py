"""Suspicious words, suggestions and filled masks are what both networks say, computed by hand."""

from itertools import islice

import pytest
import torch

from fairseq_electra.conversion.__main__ import main
from fairseq_electra.hub.masks import MASK
from fairseq_electra.hub.replaced import fill_mask, find_replaced, proofread

TEXTS = [
    "The small cat sees it.",
    "",
    "bird wasn't 😀 (Café)!",
    "a dog likes the old bird and it was good. " * 5,  # 55 tokens, of 32 at once
]


def disc_probs(electra, numbers):
    tokens = torch.tensor([[electra.dictionary.bos(), *numbers, electra.dictionary.eos()]])
    logits, _ = electra.model(tokens, features_only=False)
    return logits[0, 1:-1].sigmoid()


def gen_probs(electra, numbers, place):
    """(V,) at one place of pieces, by a full pass of the generator."""
    model = electra.model
    tokens = torch.tensor([[electra.dictionary.bos(), *numbers, electra.dictionary.eos()]])
    picked = torch.arange(tokens.size(1))[None]
    logits = model.generator(tokens, None, tokens.eq(-1), picked, model.embeddings)
    return logits[0, place + 1].softmax(0)


def test_a_words_score_is_its_worst_pieces(electra):
    text = "The small cat wasn't 😀."
    found = electra.replaced(text)
    assert [each["word"] for each in found] == ["The", "small", "cat", "wasn't", "😀", "."]
    assert all(text[each["start"] : each["end"]] == each["word"] for each in found)
    probs = disc_probs(electra, electra.read(text).numbers).tolist()
    # wasn't: was, ##n, ', t
    wanted = [*probs[:3], max(probs[3:7]), *probs[7:]]
    assert len(probs) == 9
    assert [each["score"] for each in found] == pytest.approx(wanted, abs=1e-6)


def test_the_batch_does_not_matter(electra, monkeypatch):
    one, many = (list(find_replaced(electra, TEXTS, size)) for size in (1, 64))
    for ours, theirs in zip(one, many, strict=True):
        assert [each["word"] for each in ours] == [each["word"] for each in theirs]
        scores = [each["score"] for each in ours], [each["score"] for each in theirs]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    masked = [f"{text} {MASK}" for text in TEXTS]
    one, many = (list(fill_mask(electra, masked, 5, size)) for size in (1, 64))
    for ours, theirs in zip(one, many, strict=True):
        assert [value for _, value, _ in ours] == pytest.approx(
            [value for _, value, _ in theirs], abs=1e-5
        )
    monkeypatch.setattr("fairseq_electra.hub.replaced.CANDIDATES", 6)
    one, many = (list(proofread(electra, TEXTS[:1], 3, 0.0, size)) for size in (1, 64))
    for ours, theirs in zip(one[0], many[0], strict=True):
        scores = [[each["score"] for each in word["suggestions"]] for word in (ours, theirs)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_an_endless_input(electra):
    def texts():
        while True:
            yield "the cat"

    assert [len(words) for words in islice(find_replaced(electra, texts(), 1), 3)] == [2, 2, 2]


@pytest.mark.parametrize("word", ["dog", "wasn't"])
def test_suggestions_are_ranked_by_both_networks(electra, word):
    """One mask takes the place of a word of one piece and of one of four."""
    text = f"the {word} sees it"
    index, numbers = electra.dictionary.index, electra.read(text).numbers
    before, after = numbers[:1], numbers[-2:]
    q = gen_probs(electra, [*before, index(MASK), *after], 1)

    def p_data(piece):
        d = 1 - disc_probs(electra, [*before, index(piece), *after])[1].item()
        return d * q[index(piece)].item() / (0.85 / 0.15 * (1 - d) + q[index(piece)].item())

    found = electra.proofread(text, 1000, 0.0)[1]
    assert found["word"] == word and (found["start"], found["end"]) == (4, 4 + len(word))
    pieces = [each for each in electra.tokenizer.pieces if each[0].isalnum() and each != word]
    total = sum(map(p_data, pieces))
    wanted = {piece: p_data(piece) / total for piece in pieces}
    assert {each["word"]: each["score"] for each in found["suggestions"]} == pytest.approx(
        wanted, abs=1e-5
    )
    scores = [each["score"] for each in found["suggestions"]]
    assert scores == sorted(scores, reverse=True)
    assert electra.proofread(text, 2, 0.0)[1]["suggestions"] == found["suggestions"][:2]


def test_the_discriminator_reads_what_the_generator_finds_best(electra, monkeypatch):
    every = electra.proofread("the dog sees it", 1000, 0.0)[1]["suggestions"]
    numbers = electra.read("the dog sees it").numbers
    q = gen_probs(electra, [numbers[0], electra.dictionary.index(MASK), *numbers[2:]], 1)
    monkeypatch.setattr("fairseq_electra.hub.replaced.CANDIDATES", 4)
    found = electra.proofread("the dog sees it", 1000, 0.0)[1]["suggestions"]
    best = sorted((each["word"] for each in every), key=lambda w: -q[electra.dictionary.index(w)])
    assert {each["word"] for each in found} == set(best[:4])
    assert sum(each["score"] for each in found) == pytest.approx(1)


def test_continuations_are_replaced_by_continuations(sentencepiece_electra):
    """A sign right behind a word has no space before it, nor have suggestions for it."""
    found = sentencepiece_electra.proofread("The bird.", 1000, 0.0)
    assert [each["word"] for each in found] == ["The", "bird", "."]
    pieces = sentencepiece_electra.tokenizer.pieces
    assert {each["word"] for each in found[2]["suggestions"]} == {
        piece for piece in pieces if not piece[0].isalnum() and piece[0] != "\u2581"
    } - {"."}
    assert {each["word"] for each in found[1]["suggestions"]} == {
        piece[1:] for piece in pieces if piece[0] == "\u2581" and piece[1:2].isalnum()
    } - {"bird"}


def test_what_is_proofread(electra):
    text = "The cat, wasn't 😀"
    scores = [each["score"] for each in electra.replaced(text)]
    every = electra.proofread(text, 3, 0.0)
    assert [each["word"] for each in every] == ["The", "cat", ",", "wasn't"]  # not what is unknown
    signs = next(each for each in every if each["word"] == ",")["suggestions"]
    assert len(signs) == 3 and all(each["word"] in ".!?'-" for each in signs)
    assert electra.proofread(text, 3, max(scores[:4]) + 1e-6) == []
    most = electra.proofread(text, 3, max(scores[:4]))
    assert [each["score"] for each in most] == [max(scores[:4])]


def test_a_long_text_is_proofread_in_windows(electra, monkeypatch):
    monkeypatch.setattr("fairseq_electra.hub.replaced.CANDIDATES", 3)
    text = "a dog likes the old bird and it was good. " * 5
    found = electra.proofread(text, 1, 0.0)
    assert len(found) == 55 and all(len(each["suggestions"]) == 1 for each in found)


def test_masks_are_filled_by_the_generator(electra):
    numbers = electra.read("the cat sees it").numbers
    mask = electra.dictionary.index(MASK)
    probs = gen_probs(electra, [*numbers[:2], mask, numbers[3]], 2)
    best = electra.fill_mask("The cat <mask> it", topk=1000)
    assert len(best) == len(electra.tokenizer.pieces)
    for text, prob, word in best:
        piece = word[1:] if word.startswith(" ") else f"##{word}"
        number = electra.dictionary.index(piece)
        if number == electra.dictionary.unk():
            number = electra.dictionary.index(word)  # a sign, spelled without a space
        assert prob == pytest.approx(probs[number].item(), abs=1e-6)
        assert text == f"The cat{word} it"
    assert [prob for _, prob, _ in best] == sorted((prob for _, prob, _ in best), reverse=True)
    assert electra.fill_mask("The cat <mask> it", topk=2) == best[:2]


@pytest.mark.parametrize("name", ["electra", "sentencepiece_electra"])
def test_transformers_fills_masks_the_same(name, request, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    electra = request.getfixturevalue(name)
    main(["export-hf", str(electra.checkpoint), str(tmp_path)])
    folder = tmp_path / "generator"
    pipe = transformers.FillMaskPipeline(
        model=transformers.ElectraForMaskedLM.from_pretrained(folder),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        top_k=len(electra.tokenizer.pieces),
        tokenizer_kwargs={"split_special_tokens": False},  # <mask> in a text is text otherwise
    )
    texts = ["The bird <mask> it", "<mask> bad.", "and (it) was <mask>"]
    theirs = pipe([text.replace(MASK, pipe.tokenizer.mask_token) for text in texts])
    name_of, known = pipe.tokenizer.convert_ids_to_tokens, set(electra.tokenizer.pieces)
    for ours, found in zip(electra.fill_mask(texts, topk=1000), theirs, strict=True):
        scores = {name_of(each["token"]): each["score"] for each in found}
        wanted = {electra.tokenizer.spell(name): scores[name] for name in known & set(scores)}
        assert len(ours) > 50
        for _, prob, word in ours[:50]:
            assert prob == pytest.approx(wanted[word], abs=1e-5)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda e: e.fill_mask("the cat"), "wants one <mask> in a text, not 0: 'the cat'"),
        (lambda e: e.fill_mask(["a <mask> <mask>"]), "wants one <mask> in a text, not 2"),
        (lambda e: e.fill_mask("<mask>", topk=0), "topk must be at least 1, not 0"),
        (lambda e: e.proofread("it", topk=0), "topk must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_answered_is_named(electra, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(electra)


def test_networks_that_are_missing_are_named(electra, monkeypatch):
    monkeypatch.setitem(electra.model._modules, "generator", None)
    with pytest.raises(ValueError, match="fill_mask needs the generator"):
        electra.fill_mask("<mask>")
    with pytest.raises(ValueError, match="proofread needs the generator"):
        electra.proofread("it")
    monkeypatch.setitem(electra.model._modules, "discriminator_head", None)
    with pytest.raises(ValueError, match="replaced needs the discriminator's head"):
        electra.replaced("it")
