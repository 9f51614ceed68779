"""Summaries: sentences of the text, chosen as MMR says."""

import sys

import numpy as np
import pytest
import torch

from fairseq_electra.hub.summaries import (
    RIDGE,
    choose_sentences,
    embed_whitened,
    root_inverse,
    split_sentences,
)

TEXT = "The cat sees it. A dog was good! Is it bad? The old bird likes Dr. Dog.\nA red tree."


def rows(*angles: float) -> torch.Tensor:
    """Unit vectors at angles in degrees; their lengths must not matter."""
    angle = torch.tensor(angles).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], 1)


def test_mmr_by_hand():
    vectors = rows(0, 1, 40, -90)  # the mean is at about -8 degrees
    assert choose_sentences(vectors, 2, 0.0) == [0, 1]
    assert choose_sentences(vectors, 2, 0.5) == [0, 3]
    # .7 x cos(48) - .3 x cos(40) = .24 is more than .7 x cos(9) - .3 x cos(1) = .39 is not
    assert choose_sentences(vectors, 3, 0.3)[:2] == [0, 1]
    assert choose_sentences(vectors, 4, 1.0) == [0, 3, 2, 1]
    assert sorted(choose_sentences(rows(5, 5, 5), 3, 0.3)) == [0, 1, 2]
    outlier = rows(-90, 0, 1, 40)
    assert choose_sentences(outlier, 2, 0.0) == [1, 2]
    assert choose_sentences(outlier, 3, 0.0, use_first=True) == [0, 1, 2]
    assert choose_sentences(outlier, 3, 1.0, use_first=True) == [0, 3, 1]


def test_whitened_features_vary_alike_in_all_directions():
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(5, 5, generator=generator).double()
    covariance = mixing @ mixing.T
    ridged = covariance + RIDGE * covariance.diagonal().mean() * torch.eye(5)
    whitening = root_inverse(covariance)
    torch.testing.assert_close(whitening @ ridged @ whitening, torch.eye(5).double())
    assert root_inverse(torch.zeros(3, 3).double()).isfinite().all()


def test_sentences_are_whitened_by_the_text_of_which_they_are(electra):
    sentences = split_sentences(TEXT)
    pieces = [electra.embed(sentence, layer=0) for sentence in sentences]
    texts = [electra.read(sentence) for sentence in sentences]
    rows = list(electra.each_piece(texts, lambda tokens: electra.layer_features(tokens, 0)))
    covariance = torch.cat(rows).double().T.cov(correction=0)
    wanted = torch.tensor(np.stack(pieces)).double() @ root_inverse(covariance)
    torch.testing.assert_close(embed_whitened(electra, sentences), wanted, atol=1e-3, rtol=1e-3)


def test_sentences_of_many_languages():
    assert split_sentences(TEXT) == [
        "The cat sees it.",
        "A dog was good!",
        "Is it bad?",
        "The old bird likes Dr. Dog.",
        "A red tree.",
    ]
    assert split_sentences("我喜欢猫。他不。") == ["我喜欢猫。", "他不。"]
    assert split_sentences("नमस्ते। आप कैसे हैं।") == ["नमस्ते।", "आप कैसे हैं।"]
    assert split_sentences(" \n\n ") == []


def test_a_summary_is_of_the_text_in_its_order(electra):
    sentences = split_sentences(TEXT)
    vectors = embed_whitened(electra, sentences)
    for number in (1, 2, 3):
        for use_first in (False, True):
            places = sorted(choose_sentences(vectors, number, 0.3, use_first))
            wanted = [sentences[place] for place in places]
            assert electra.summarize(TEXT, number, use_first=use_first) == wanted
        assert electra.summarize(TEXT, number)[0] == sentences[0]
    assert electra.summarize(TEXT, 5) == electra.summarize(TEXT, 99) == sentences
    assert electra.summarize("") == []
    same = "The cat sees it. " * 5
    assert electra.summarize(same, 2) == ["The cat sees it."] * 2


def test_what_cannot_be_done_is_named(electra, monkeypatch):
    with pytest.raises(ValueError, match="num_sentences must be 1 or more, not 0"):
        electra.summarize(TEXT, 0)
    with pytest.raises(ValueError, match="diversity must be from 0 to 1, not 2"):
        electra.summarize(TEXT, diversity=2)
    with pytest.raises(TypeError, match="a text is a str, not list"):
        electra.summarize([TEXT])
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(ImportError, match=r"pip install fairseq_electra\[hub\]"):
        electra.summarize(TEXT)
