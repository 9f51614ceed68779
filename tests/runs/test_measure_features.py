"""measure_features.py on tiny checkpoints: figures by numpy, a probe, complaints in one line."""

import json
import sys
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models.roberta import RobertaHubInterface, RobertaModel

from fairseq_electra.__main__ import main
from fairseq_electra.runs import measure_features
from tiny import TINY_OPTIONS, USER_DIR


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data-bin with a tokenizer, of 12 words that follow each other."""
    folder = tmp_path_factory.mktemp("features")
    lines = [" ".join(f"w{(i + j) % 12}" for j in range(14)) for i in range(300)]
    (folder / "text.txt").write_text("\n\n".join(lines) + "\n")
    command = ["prepare-data", str(folder / "bin"), str(folder / "text.txt"), "--workers", "1"]
    main([*command, "--vocab-size", "75"])
    return folder


@pytest.fixture(scope="module")
def checkpoint(prepared, run_command):
    save_dir = prepared / "electra"
    run_command(
        *(sys.executable, "-m", "fairseq_cli.train", prepared / "bin", "--user-dir", USER_DIR),
        *("--cpu", "--task", "electra", "--criterion", "electra", "--arch", "electra_tiny"),
        *(*TINY_OPTIONS, "--optimizer", "electra_adam", "--lr", "1e-3", "--max-update", 2),
        *("--tokens-per-sample", 32, "--batch-size", 8, "--num-workers", 0),
        *("--save-dir", save_dir, "--disable-validation"),
    )
    return save_dir / "checkpoint_last.pt"


def measure(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda *words, **_: printed.append(words[0]))
        main(["features", *map(str, arguments)])
    return json.loads(printed[0])


def test_figures_of_trained_and_untrained_encoders(checkpoint):
    found = measure(f"a={checkpoint}", f"b=untrained:{checkpoint}")
    assert set(found) == {"a", "b"} and found["a"] != found["b"]
    model, task = measure_features.load(str(checkpoint))
    again = measure_features.measure(model, task, 1000)
    assert found["a"] == again
    assert 0 < again["feature_mean"] < 1 < again["feature_dims"] < 32


def test_blocks_are_whole_sentences_of_the_held_out_text(checkpoint, monkeypatch):
    seen = []
    model, task = measure_features.load(str(checkpoint))
    encode = model.encode
    monkeypatch.setattr(
        model, "encode", lambda tokens, **how: seen.append(tokens) or encode(tokens, **how)
    )
    found = measure_features.measure(model, task, 3)
    (tokens,) = seen
    assert tokens.shape == (3, 32)
    assert (tokens[:, 0] == task.source_dictionary.bos()).all()
    assert (tokens[:, -1] == task.source_dictionary.eos()).all()
    with torch.no_grad():
        features = encode(tokens)[0].flatten(0, 1).double().numpy()
    eigenvalues = np.linalg.eigvalsh(np.cov(features.T, bias=True))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert found["feature_dims"] == pytest.approx(expected, rel=1e-6)


def test_layers_of_fairseqs_roberta_are_those_of_its_hub():
    """With padding, which both put on the right."""
    dictionary = Dictionary()
    for number in range(12):
        dictionary.add_symbol(f"w{number}")
    dictionary.add_symbol("<mask>")
    args = Namespace(encoder_layers=2, encoder_embed_dim=16, encoder_attention_heads=2)
    args.max_positions = 30
    model = RobertaModel.build_model(args, SimpleNamespace(source_dictionary=dictionary)).eval()
    tokens = torch.tensor([[0, 5, 6, 7, 2], [0, 8, 2, 1, 1]])
    hub = RobertaHubInterface(
        Namespace(bpe=None), SimpleNamespace(source_dictionary=dictionary), model
    )
    expected = hub.extract_features(tokens, return_all_hiddens=True)
    found = measure_features.encode_layers(model, tokens)
    assert len(found) == 2
    for ours, theirs in zip(found, expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_probe_reads_what_is_in_the_words(checkpoint, tmp_path):
    """Tags that the word decides are read off, tags by chance are not."""
    rng = np.random.default_rng(0)
    for name, tag in (("plain", lambda n: n % 3), ("chance", lambda n: rng.integers(3))):
        lines = [f"w{n} t{tag(n)}" for n in rng.integers(0, 12, 400)]
        (tmp_path / name).write_text("\n\n".join(lines) + "\n")
    runs = (f"a={checkpoint}", "--probe")
    found = measure(*runs, tmp_path / "plain", tmp_path / "plain")["a"]
    assert (
        found["probe"] > 95 and len(found["probe_layers"]) == 2 and min(found["probe_layers"]) > 95
    )
    assert measure(*runs, tmp_path / "plain", tmp_path / "chance")["a"]["probe"] < 60


def test_a_layer_is_probed_alone(monkeypatch):
    """Tags are in the second of two layers, and half of them in the first."""
    tags = np.arange(300) % 4
    layers = np.stack([np.eye(2)[tags % 2], np.eye(4)[tags][:, :2]])
    monkeypatch.setattr(measure_features, "TaggingDataset", lambda *_: None)
    monkeypatch.setattr(measure_features, "load_tokenizer", lambda _: None)
    monkeypatch.setattr(measure_features, "read_layers", lambda *_: (layers, tags))
    task = SimpleNamespace(cfg=SimpleNamespace(data=""), source_dictionary=None)
    found = measure_features.probe(None, task, [], [])
    assert found["probe_layers"] == [50, 75]
    assert found["probe"] == 100


@pytest.mark.parametrize(
    ("run", "message"),
    [("a=/nowhere.pt", "no such checkpoint"), ("a={}/text.txt", "not a whole checkpoint")],
)
def test_what_is_no_checkpoint_is_said_in_one_line(prepared, run, message):
    with pytest.raises(SystemExit, match=f"fairseq-electra features: .*{message}"):
        main(["features", run.format(prepared)])
