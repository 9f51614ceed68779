"""Embeddings are means of a layer's features in any batch; cosines are scikit-learn's."""

import logging

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from fairseq_electra.hub.embeddings import find_layer
from fairseq_electra.models.electra import ElectraModel

LONG = "a dog sees the old bird and it was good ." * 6
TEXTS = ["the cat", "", LONG, "it", "héllo 中 文 😀 !", "the cat sees a small tree ."]


def test_an_embedding_is_the_mean_of_the_pieces(electra):
    features = electra.extract_features(electra.encode("the cat sees it"), True)
    for layer, hidden in enumerate(features):
        wanted = hidden[0, 1:-1].mean(0).detach()
        for number in (layer, layer - len(features)):
            ours = electra.embed("the cat sees it", layer=number, convert_to_tensor=True)
            torch.testing.assert_close(ours, wanted, atol=1e-6, rtol=1e-5)
    default = electra.embed("the cat sees it")
    assert default.dtype == np.float32 and default.shape == (32,)
    assert np.array_equal(default, electra.embed("the cat sees it", layer=1))


@pytest.mark.parametrize(("layers", "middle"), [(1, 0), (2, 1), (4, 2), (12, 6), (24, 12)])
def test_the_middle_layer_is_the_default(layers, middle):
    assert find_layer(None, layers) == middle


def test_layers_above_are_not_computed(electra, monkeypatch):
    wanted = electra.embed(TEXTS, layer=1)

    def fail(*_):
        raise AssertionError("a layer above was computed")

    monkeypatch.setattr(electra.model.encoder.layers[1], "forward", fail)
    assert np.array_equal(electra.embed(TEXTS, layer=1), wanted)
    with pytest.raises(AssertionError):
        electra.embed(TEXTS, layer=2)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_the_batch_does_not_matter(electra, batch_size):
    together = electra.embed(TEXTS, batch_size=batch_size)
    assert together.shape == (len(TEXTS), 32)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(row, electra.embed(text), atol=1e-5)


def test_a_long_text_counts_to_its_end(electra):
    """All windows are read: another last word changes the mean, and each piece counts once."""
    text = electra.read(LONG)
    assert len(text.numbers) > 2 * electra.max_tokens
    (rows,) = electra.each_piece([text], lambda tokens: electra.layer_features(tokens, 1))
    assert len(rows) == len(text.numbers)
    np.testing.assert_allclose(electra.embed(LONG), rows.mean(0).numpy(), atol=1e-6)
    assert np.abs(electra.embed(LONG) - electra.embed(LONG + " bad")).max() > 1e-4


def test_any_iterable_is_read_bit_by_bit(electra):
    taken, seen = [], []

    def texts():
        for number in range(140):
            taken.append(number)
            yield TEXTS[number % 2]

    compute = electra.layer_features
    electra.layer_features = lambda *given: (seen.append(len(taken)), compute(*given))[1]
    try:
        rows = electra.embed(texts(), batch_size=1)
    finally:
        del electra.layer_features
    assert rows.shape == (140, 32) and seen[0] < 70
    np.testing.assert_allclose(rows, electra.embed(TEXTS[:2] * 70), atol=1e-5)


def test_nothing_gives_zeros_or_no_rows(electra):
    assert not electra.embed("").any() and not electra.embed(" \n", normalize_embeddings=True).any()
    assert electra.embed([]).shape == (0, 32)
    assert electra.embed(iter(()), convert_to_tensor=True).shape == (0, 32)
    assert electra.similarity(electra.embed(["", "it"]), electra.embed("it"))[0, 0] == 0


def test_normalized_ones_have_length_1(electra):
    plain, unit = electra.embed(TEXTS[2:]), electra.embed(TEXTS[2:], normalize_embeddings=True)
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    assert lengths.min() > 1.1
    np.testing.assert_allclose(unit, plain / lengths, atol=1e-6)


def test_tensors_can_be_trained_on(electra):
    rows = electra.embed(TEXTS, convert_to_tensor=True)
    assert torch.equal(rows, torch.from_numpy(electra.embed(TEXTS)))
    head = torch.nn.Linear(32, 1)
    head(rows).sum().backward()  # tensors of inference mode would refuse
    torch.testing.assert_close(head.weight.grad[0], rows.sum(0))


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_cosines_are_scikit_learns(electra, convert):
    a, b = electra.embed(TEXTS[2:]), electra.embed(["the dog", "a bird !"])
    ours = electra.similarity(convert(a), convert(b))
    assert ours.shape == (4, 2)
    np.testing.assert_allclose(ours, cosine_similarity(a, b), atol=1e-6)
    np.testing.assert_allclose(electra.similarity(convert(a), a).diagonal(), 1, atol=1e-6)
    pairs = electra.similarity_pairwise(convert(a[:2]), convert(b))
    np.testing.assert_allclose(pairs, np.diagonal(cosine_similarity(a[:2], b)), atol=1e-6)
    assert electra.similarity(convert(a[0]), convert(b)).shape == (1, 2)
    assert electra.similarity_pairwise(convert(a[0]), convert(b[0])).shape == (1,)


def test_the_order_of_words_matters_above_the_embeddings(electra):
    one, other = electra.embed(["the cat sees a dog", "a dog sees the cat"], layer=2)
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    ("level", "show", "is_shown"),
    [
        (logging.INFO, None, True),
        (logging.DEBUG, None, True),
        (logging.WARNING, None, False),
        (logging.WARNING, True, True),
        (logging.INFO, False, False),
    ],
)
def test_a_progress_bar_goes_with_the_log(electra, capsys, level, show, is_shown):
    logger = logging.getLogger("fairseq_electra.hub.embeddings")
    before = logger.level
    logger.setLevel(level)
    try:
        electra.embed(["the cat", "it"], show_progress_bar=show)
    finally:
        logger.setLevel(before)
    assert ("2/2" in capsys.readouterr().err) == is_shown


def test_what_cannot_be_done_is_named(electra):
    with pytest.raises(ValueError, match="no layer 3: the model has 0, the embeddings, to 2"):
        electra.embed("it", layer=3)
    with pytest.raises(ValueError, match="no layer -4: "):
        electra.embed("it", layer=-4)
    with pytest.raises(ValueError, match="batch_size must be 1 or more, not 0"):
        electra.embed("it", batch_size=0)
    with pytest.raises(TypeError, match="a text is a str, not int: 5"):
        electra.embed([5])
    with pytest.raises(ValueError, match="embeddings of 32 and of 31 numbers cannot be compared"):
        electra.similarity(np.ones((2, 32)), np.ones((2, 31)))
    with pytest.raises(ValueError, match="2 and 3 embeddings are not pairs"):
        electra.similarity_pairwise(np.ones((2, 32)), np.ones((3, 32)))


def test_an_encoder_stops_where_it_is_told(electra):
    model: ElectraModel = electra.model
    tokens = electra.pad([electra.encode(text).tolist() for text in ("the cat", "it was good .")])
    mask = tokens.eq(electra.dictionary.pad())
    hiddens: list = []
    model.encoder(model.embeddings(tokens), mask, hiddens)
    for depth, hidden in enumerate(hiddens):
        ours = model.encoder(model.embeddings(tokens), mask, depth=depth)
        assert torch.equal(ours[~mask], hidden[~mask])
