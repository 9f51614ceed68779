"""hub.load finds a model, its tokenizer and its data, or names what is missing."""

import shutil
from argparse import Namespace

import pytest
import torch

from fairseq_electra import hub
from fairseq_electra.hub import loading
from fairseq_electra.hub.electra import Electra
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ENCODER_NUMBERS, ElectraConfig
from fairseq_electra.models.electra_mlm import ElectraMaskedLM
from tiny import TINY


def test_a_file_and_its_folder_are_the_same_model(checkpoint, electra):
    other = hub.load(checkpoint.parent)
    assert other.checkpoint == checkpoint
    for ours, theirs in zip(electra.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not electra.model.training and electra.device.type == "cpu"


def test_fairseqs_way_gives_the_same(checkpoint, electra):
    other = ElectraModel.from_pretrained(str(checkpoint.parent), checkpoint_file=checkpoint.name)
    assert type(other) is type(electra)
    tokens = electra.encode("the cat sees it .")
    assert torch.equal(other.extract_features(tokens), electra.extract_features(tokens))


def test_it_says_what_it_has(electra, checkpoint):
    assert repr(electra) == (
        f"Electra({checkpoint}: 2 layers x 32, 0.0 M weights; generator; discriminator; "
        "heads: none; 77 pieces of wordpiece, uncased; at most 32 tokens at once; cpu)"
    )


def test_packaged_models(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "PRETRAINED", tmp_path)
    assert hub.list_models() == []
    with pytest.raises(ValueError, match="no model tiny: the package has none"):
        hub.model_path("tiny")
    shutil.copytree(checkpoint.parent, tmp_path / "tiny")
    assert hub.list_models() == ["tiny"] and hub.model_path("tiny") == tmp_path / "tiny"
    assert hub.load("tiny").checkpoint == tmp_path / "tiny" / "checkpoint.pt"


def test_data_elsewhere(checkpoint, tmp_path, electra):
    shutil.copy(checkpoint, tmp_path / "checkpoint_best.pt")
    found = hub.load(tmp_path)  # where it was trained
    assert found.tokenizer.pieces == electra.tokenizer.pieces
    other = tmp_path / "elsewhere"
    other.mkdir()
    for file in checkpoint.parent.iterdir():
        if file.suffix != ".pt":
            shutil.copy(file, other)
    assert hub.load(tmp_path, data=other).tokenizer.pieces == electra.tokenizer.pieces


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nowhere"}, "nowhere: no such checkpoint or folder, nor a packaged model"),
        ({"path": "{folder}/empty"}, "holds no checkpoint.pt, checkpoint_best.pt"),
        ({"path": "{folder}/text.pt"}, "is not a whole checkpoint of fairseq-train"),
        ({"data": "{folder}/empty"}, "empty holds no tokenizer"),
        ({"device": "cuda:77"}, "device 'cuda:77' cannot be used"),
        ({"device": "nonsense"}, "device 'nonsense' cannot be used"),
        ({"precision": "fp8"}, "precision must be one of float32, bf16, not 'fp8'"),
    ],
)
def test_what_does_not_load_is_named(checkpoint, tmp_path, options, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("no checkpoint")
    given = {name: value.format(folder=tmp_path) for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        hub.load(**{"path": checkpoint, **given})


def test_another_kind_of_model_is_named(checkpoint, tmp_path):
    state = torch.load(checkpoint, weights_only=False)
    state["cfg"]["model"]["_name"] = "roberta"
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt"):
        hub.load(tmp_path)
    assert issubclass(ElectraMaskedLM, ElectraModel)  # has no generator, but embeds


@pytest.fixture
def masked_lm(electra):
    """A model of --arch electra_mlm that was trained in bf16."""
    cfg = ElectraConfig(**{**TINY, "precision": "bf16"})
    return ElectraMaskedLM(cfg, electra.dictionary)


def test_a_masked_language_model_has_features_too(electra, checkpoint, masked_lm):
    masked_lm.cfg.precision = "float32"
    other = Electra(masked_lm, electra.task, electra.tokenizer, checkpoint)
    tokens = other.encode("the cat sees it .")
    wanted, _ = masked_lm.encode(tokens[None])
    assert torch.equal(other.extract_features(tokens), wanted)
    hiddens = other.extract_features(tokens, return_all_hiddens=True)
    assert len(hiddens) == 3 and torch.equal(hiddens[-1], wanted)


def test_a_masked_language_model_computes_as_it_is_told(
    electra, checkpoint, masked_lm, monkeypatch
):
    """Not as it was trained."""
    built = (masked_lm, electra.task, checkpoint.parent, checkpoint)
    monkeypatch.setattr(loading, "build_model", lambda *_: built)
    for precision in ("float32", "bf16"):
        scorer = loading.load_scorer(checkpoint, "cpu", precision)
        assert (scorer.precision, scorer.model.cfg.precision) == (precision, precision)


def test_a_task_of_fairseq_s_that_is_not_for_here_is_named(checkpoint, tmp_path):
    """Its options are a Namespace, as those of all tasks without a dataclass."""
    state = torch.load(checkpoint)
    state["cfg"]["task"] = Namespace(_name="sentence_ranking", data=str(checkpoint.parent))
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="--task sentence_ranking, which is not for here"):
        hub.load(tmp_path)


def test_tokens_and_back(electra):
    tokens = electra.encode("The cat sees <mask> .", "a dog")
    names = [electra.dictionary[number] for number in tokens]
    assert names[:4] == ["<s>", "the", "cat", "sees"]
    assert names[-5:] == [".", "</s>", "a", "dog", "</s>"]
    assert "<mask>" not in names  # text never becomes a special symbol
    assert electra.decode(electra.encode("The cat, it was good!")) == "the cat, it was good!"
    assert electra.decode(electra.encode("")) == ""


def test_features_are_the_models(electra):
    tokens = electra.encode("the cat", "sees it")
    types = torch.tensor([[0, 0, 0, 0, 1, 1, 1]])
    wanted, _ = electra.model.encode(
        tokens[None], token_types=types, features_only=True, return_all_hiddens=True
    )
    assert torch.equal(electra.extract_features(tokens), wanted)
    assert torch.equal(electra.extract_features(torch.stack([tokens, tokens]))[1:], wanted)
    hiddens = electra.extract_features(tokens, return_all_hiddens=True)
    assert len(hiddens) == 3 and torch.equal(hiddens[-1], wanted)
    with pytest.raises(ValueError, match="longer than the model's --max-positions 32"):
        electra.extract_features(torch.full((33,), 5))


def test_there_is_no_such_head(electra):
    with pytest.raises(ValueError, match="has no head 'topic'; it has none: fine-tune it first"):
        electra.predict("topic", electra.encode("the cat"))


def test_bf16_is_near_float32(checkpoint, electra):
    tokens = electra.encode("the cat sees it .")
    other = hub.load(checkpoint, precision="bf16").extract_features(tokens)
    assert not torch.equal(other, electra.extract_features(tokens))
    torch.testing.assert_close(other.float(), electra.extract_features(tokens), atol=0.1, rtol=0.1)


def test_the_packaged_model_finds_the_word_that_does_not_belong():
    model = hub.load("electra_tiny_en")
    tokens = model.encode("She won the gold medal at the 1996 Olympic river.")
    logits = model.replaced_logits(tokens[None])[0]
    assert model.dictionary[tokens[logits.argmax()]] == "\u2581river"
    assert logits.gt(0).sum() == 1
    assert model.max_tokens == 64 and model.model.generator is not None


def test_a_checkpoint_older_than_most_options_is_loaded(checkpoint, electra, tmp_path):
    """As fairseq-train wrote it, with a size for --arch: fairseq fills in nothing there."""
    shutil.copytree(checkpoint.parent, tmp_path, dirs_exist_ok=True)
    state = torch.load(checkpoint, weights_only=False)
    options = state["cfg"]["model"]
    old = (*ENCODER_NUMBERS, "generator_size", "dropout", "attention_dropout")
    state["cfg"]["model"] = {name: options[name] for name in old} | {"_name": "electra_tiny"}
    torch.save(state, tmp_path / "checkpoint.pt")
    loaded = hub.load(tmp_path)
    text = "the cat sees it."
    assert loaded.score(text, "combined") == electra.score(text, "combined")
