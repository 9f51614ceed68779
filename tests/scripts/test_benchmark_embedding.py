"""The benchmark of embeddings at the tiny size: all embed alike; no figure is judged."""

import lzma

import numpy as np
import pytest
import torch

from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer
from scripts.benchmark import embedding as benchmark
from scripts.benchmark.contenders import Setting

WORDS = "the a cat dog bird sees likes old small and it was good ."
TEXT = "The cat sees it and likes it. A dog!\n\nThe small old bird was good and it likes a dog.\n"
SETTING = Setting("tiny", 512, 32, torch.device("cpu"), 0, 0.0)


@pytest.fixture
def data_bin(tmp_path):
    vocabulary = [*BERT_SPECIALS, *WORDS.split()]
    folder = tmp_path / "data-bin"
    folder.mkdir()
    WordPieceTokenizer("\n".join(vocabulary).encode(), cased=False).save(folder)
    return folder


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt.xz").write_bytes(lzma.compress(TEXT.encode()))
    return tmp_path / "text.txt.xz"


def test_sentences_are_neither_short_nor_long(text):
    sentences = benchmark.read_sentences(text, 10)
    assert sentences == [TEXT[:29], TEXT[38:].strip()]
    assert benchmark.read_sentences(text, 1) == sentences[:1]


def test_all_embed_with_the_same_model(data_bin, text, tmp_path):
    pytest.importorskip("transformers")
    pair = benchmark.build_pair(data_bin, SETTING, tmp_path)
    sentences = benchmark.read_sentences(text, 2)
    embedders = benchmark.list_embedders(pair)
    ours = embedders["embed, the last layer"](sentences)
    electra, theirs = pair.electra, embedders[benchmark.BASE](sentences)
    for sentence, row, other in zip(sentences, ours, theirs, strict=True):
        features = electra.extract_features(electra.encode(sentence))[0].detach().numpy()
        np.testing.assert_allclose(row, features[1:-1].mean(0), atol=1e-5)
        np.testing.assert_allclose(other, features.mean(0), atol=1e-4)  # with <s> and </s>
    for embed in embedders.values():
        assert embed(sentences).shape == ours.shape


def test_the_table_has_a_row_each(data_bin, text, capsys, monkeypatch):
    name = "embed, the middle layer (default)"
    monkeypatch.setattr(benchmark, "list_embedders", lambda pair: {name: pair.electra.embed})
    benchmark.main([str(data_bin), str(text), "--size", "tiny", "--rounds", "1"])
    output = capsys.readouterr().out
    assert "tiny, 2 sentences of 9.0 words, " in output
    assert f"| {name} | " in output


def test_ratios_are_of_the_same_round():
    times = {"embed": [1.0, 4.0, 2.0], benchmark.BASE: [2.0, 6.0, 2.0]}
    assert benchmark.format_table(times, 12)[2:] == [
        "| embed | 6 | 3 to 12 | 1.50 |",
        f"| {benchmark.BASE} | 6 | 2 to 6 | 1.00 |",
    ]
    assert benchmark.format_table({"embed": [1.0]}, 12)[2] == "| embed | 12 | 12 to 12 | not run |"


def test_what_is_missing_is_named(data_bin, tmp_path, capsys):
    with pytest.raises(SystemExit):
        benchmark.main([str(data_bin), str(tmp_path / "none.txt")])
    assert "none.txt cannot be read" in capsys.readouterr().err
