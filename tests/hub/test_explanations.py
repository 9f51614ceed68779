"""Attributions are integrated gradients, and sum to what they explain."""

import json
import sys

import pytest
import torch
from torch import nn

from fairseq_electra import hub
from fairseq_electra.checkpoints.fitting import hash_names
from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.data.tokenizer import load_tokenizer
from fairseq_electra.hub import explanations
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.modules.answer_head import JointAnswerHead
from fairseq_electra.modules.heads import ClassificationHead, TaggingHead
from fairseq_electra.tasks.electra_tagging import HEAD
from tagging_bin import TAGS, make_dictionary, make_tag_bin
from tiny import TINY

TEXT = "The cat sees the small birdie, and it was good!"
PAIR = ("The cat was good.", "A bird sees it")
TOPIC = "topic"


@pytest.fixture
def captum():
    return pytest.importorskip("captum", reason="needs pip install fairseq_electra[hub]")


def load_finetuned(folder, tokenizer, task, name, head, **options):
    """What fine-tuning leaves, with random weights, loaded as a user does."""
    torch.manual_seed(5)
    cfg = ElectraConfig(**{**TINY, "weight_init": "fan-in", **options})
    model = ElectraModel(cfg, make_dictionary(tokenizer), pretrain=False)
    model.add_head(name, head)
    nn.init.normal_(head.out_proj.weight)
    file = folder / "checkpoint_best.pt"
    write_checkpoint(file, cfg, model.state_dict(), folder)
    state = torch.load(file, weights_only=False)
    state["cfg"]["task"] = {"data": str(folder), **task}
    torch.save(state, file)
    return hub.load(folder)


def load_for_sentences(folder, tokenizer, labels, pooling="first"):
    for part in ("input0", "label"):
        (folder / part).mkdir()
    tokenizer.save(folder / "input0")
    (folder / "label" / "dict.txt").write_text("".join(f"{label} 1\n" for label in labels))
    task = {"_name": "sentence_prediction", "classification_head_name": TOPIC}
    task |= {"num_classes": len(labels), "regression_target": len(labels) == 1}
    task["max_positions"] = 32
    head = ClassificationHead(32, len(labels), 0.0, pooling)
    return load_finetuned(folder, tokenizer, task, TOPIC, head, pooling=pooling)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory, electra):
    folder = tmp_path_factory.mktemp("sentences")
    return load_for_sentences(folder, electra.tokenizer, ("down", "level", "up"))


@pytest.fixture(scope="module")
def tags(tmp_path_factory):
    folder = make_tag_bin(tmp_path_factory.mktemp("tags") / "bin", train=2, valid=2)
    task = {"_name": "electra_tagging", "tokens_per_sample": 16}
    head = TaggingHead(32, len(TAGS), 0.0, hash_names(TAGS))
    return load_finetuned(folder, load_tokenizer(folder), task, HEAD, head)


def integrate(electra, tokens, types, read, steps=400):
    """Attributions (T,) in plain words, by the midpoint rule; and the logit at both ends."""
    model = electra.model
    baseline = tokens.clone()
    is_end = tokens.eq(electra.dictionary.bos()) | tokens.eq(electra.dictionary.eos())
    baseline[~is_end] = electra.dictionary.pad()
    with torch.no_grad():
        x, start = (model.embeddings(each[None], types) for each in (tokens, baseline))
    share = (torch.arange(steps) + 0.5) / steps
    path = (start + share[:, None, None] * (x - start)).requires_grad_()
    read(model.encoder(path, None)).sum().backward()
    ends = [read(model.encoder(each, None)).item() for each in (x, start)]
    return (path.grad.mean(0) * (x - start)[0]).sum(-1), *ends


def check_by_hand(electra, explanation, tokens, read, types=None):
    """The explanation is of `read`, and its attributions are those computed by hand."""
    tokens = torch.as_tensor(tokens)
    types = torch.zeros_like(tokens[None]) if types is None else types
    attributions, logit, baseline = integrate(electra, tokens, types, read)
    assert explanation.logit == pytest.approx(logit, abs=1e-5)
    assert explanation.baseline == pytest.approx(baseline, abs=1e-5)
    is_end = tokens.eq(electra.dictionary.bos()) | tokens.eq(electra.dictionary.eos())
    assert attributions[is_end].abs().max() == 0
    found = torch.tensor([token.attribution for token in explanation.tokens])
    torch.testing.assert_close(found, attributions[~is_end], atol=1e-4, rtol=1e-3)
    check_sum(explanation)
    assert attributions.abs().max() > 0.01


def check_sum(explanation):
    """Attributions sum to the difference they explain but for the error that is told."""
    total = sum(token.attribution for token in explanation.tokens)
    difference = explanation.logit - explanation.baseline
    assert total - difference == pytest.approx(explanation.delta, abs=1e-5)
    assert abs(explanation.delta) < 1e-3
    assert sum(word.attribution for word in explanation.words) == pytest.approx(total, abs=1e-6)


def test_why_a_word_looks_replaced(captum, electra):
    explanation = electra.explain(TEXT)
    tokens = electra.encode(TEXT)
    logits = electra.replaced_logits(tokens[None])[0]
    worst = int(logits[1:-1].argmax()) + 1
    check_by_hand(
        electra,
        explanation,
        tokens,
        lambda features: electra.model.discriminator_head(features)[:, worst],
    )
    replaced = torch.tensor([token.replaced for token in explanation.tokens])
    torch.testing.assert_close(replaced, logits[1:-1].sigmoid())
    assert explanation.logit == pytest.approx(logits[worst].item(), abs=1e-5)
    assert explanation.probability == pytest.approx(replaced.max().item())
    word = explanation.words[explanation.word]
    assert word.first <= worst - 1 < word.last and word.replaced == pytest.approx(replaced.max())
    assert (explanation.head, explanation.label) == (None, None)


def test_words_and_their_places(captum, electra):
    explanation = electra.explain(TEXT, word="birdie")
    words = explanation.words
    assert [word.text for word in words] == TEXT.replace(",", " ,").replace("!", " !").split()
    for word in words:
        assert TEXT[word.start : word.end] == word.text
    word = words[explanation.word]
    pieces = explanation.tokens[word.first : word.last]
    assert [piece.piece for piece in pieces] == ["bird", "##i", "##e"]
    assert word.attribution == pytest.approx(sum(piece.attribution for piece in pieces))
    assert word.replaced == explanation.probability == max(piece.replaced for piece in pieces)
    assert electra.explain(TEXT, word=5) == explanation


def test_why_a_head_says_so(captum, sentences):
    explanation = sentences.explain(TEXT, TOPIC)
    tokens = sentences.encode(TEXT)
    logits = sentences.predict(TOPIC, tokens, return_logits=True)[0]
    best = int(logits.argmax())
    head = sentences.model.classification_heads[TOPIC]
    check_by_hand(
        sentences,
        explanation,
        tokens,
        lambda features: head(features, torch.zeros(features.shape[:2]).bool())[:, best],
    )
    assert explanation.label == ("down", "level", "up")[best]
    assert explanation.probability == pytest.approx(logits.softmax(0).max().item())
    assert explanation.word is None and explanation.tokens[0].replaced is None
    for number, label in enumerate(("down", "level", "up")):
        other = sentences.explain(TEXT, TOPIC, label=label)
        assert other.label == label
        assert other.logit == pytest.approx(logits[number].item(), abs=1e-5)


def test_a_pair(captum, sentences):
    explanation = sentences.explain(PAIR, TOPIC, label="up")
    tokens = sentences.encode(*PAIR)
    head = sentences.model.classification_heads[TOPIC]
    check_by_hand(
        *(sentences, explanation, tokens),
        lambda features: head(features, torch.zeros(features.shape[:2]).bool())[:, 2],
        sentences.mark_types(tokens[None]),
    )
    assert explanation.texts == PAIR
    for word in explanation.words:
        assert PAIR[word.sentence][word.start : word.end] == word.text
    assert [word.sentence for word in explanation.words] == [0] * 5 + [1] * 4
    assert len(sentences.explain(("", "cat"), TOPIC).words) == 1


def test_why_a_word_is_tagged_so(captum, tags):
    text = "w1 w13 w2"
    explanation = tags.explain(text, HEAD, word="w13")
    tokens = tags.encode(text)
    assert [token.piece for token in explanation.tokens] == ["w1", "w1", "##3", "w2"]
    logits = tags.predict(HEAD, tokens, return_logits=True)[0, 2]  # of w13's first piece
    best = int(logits.argmax())
    head = tags.model.classification_heads[HEAD]
    check_by_hand(tags, explanation, tokens, lambda features: head(features)[:, 2, best])
    assert (explanation.label, explanation.word) == (TAGS[best], 1)
    assert explanation.probability == pytest.approx(logits.softmax(0).max().item())


def test_a_head_that_gives_a_number(captum, tmp_path, electra):
    electra = load_for_sentences(tmp_path, electra.tokenizer, ("number",), pooling="mean")
    explanation = electra.explain(TEXT, TOPIC)
    assert (explanation.label, explanation.probability) == (None, None)
    assert explanation.logit == pytest.approx(electra.predict(TOPIC, electra.encode(TEXT)).item())
    check_sum(explanation)
    assert str(explanation).startswith(f"topic gives {explanation.logit:.3f}\n")
    with pytest.raises(ValueError, match="'topic' gives a number, not labels: leave out label="):
        electra.explain(TEXT, TOPIC, label="down")


def test_a_long_text_is_explained_in_its_window(captum, electra):
    """Pieces that are not read with the word add nothing to what is said of it."""
    text = "the cat sees a dog . " * 20
    explanation = electra.explain(text, word=60)
    check_sum(explanation)
    (logits,) = electra.each_piece([electra.read(text)], electra.replaced_logits)
    assert explanation.logit == pytest.approx(logits[60].item(), abs=1e-5)
    used = [number for number, each in enumerate(explanation.tokens) if each.attribution]
    assert len(explanation.tokens) == 120 and len(used) == 30  # of 32, as of a window
    assert used == list(range(used[0], used[0] + 30)) and used[0] <= 60 - 7 < 60 + 7 <= used[-1]


def test_more_steps_are_more_exact_and_batches_do_not_matter(captum, electra, monkeypatch):
    explanation = electra.explain(TEXT)
    assert abs(electra.explain(TEXT, steps=3).delta) > 10 * abs(explanation.delta)
    monkeypatch.setattr(explanations, "BATCH_TOKENS", 1)
    alone = electra.explain(TEXT)
    for ours, theirs in zip(explanation.tokens, alone.tokens, strict=True):
        assert ours.attribution == pytest.approx(theirs.attribution, abs=1e-5)


def test_it_is_in_float32_and_where_nothing_is_learnt(captum, checkpoint, electra):
    expected = electra.explain(TEXT, word="cat")
    other = hub.load(checkpoint, precision="bf16")
    with torch.inference_mode():
        found = other.explain(TEXT, word="cat")
    assert found.logit == pytest.approx(expected.logit, abs=1e-5)
    assert found.probability == pytest.approx(expected.probability, abs=1e-6)
    assert all(parameter.grad is None for parameter in other.parameters())
    assert other.model.cfg.precision == "bf16"
    for ours, theirs in zip(found.tokens, expected.tokens, strict=True):
        assert ours.attribution == pytest.approx(theirs.attribution, abs=1e-5)
        assert ours.replaced == pytest.approx(theirs.replaced, abs=1e-6)


def test_json(captum, electra):
    explanation = electra.explain(TEXT)
    read = json.loads(json.dumps(explanation.to_dict()))
    assert read["texts"] == [TEXT] and read["delta"] == explanation.delta
    assert read["tokens"][5]["attribution"] == explanation.tokens[5].attribution
    assert read["words"][5]["text"] == "birdie"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "mood"}, "has no head 'mood'"),
        ({"label": "up"}, "label= is for a head: name that as well, as head="),
        ({"text": "   "}, "the text has no words"),
        ({"text": PAIR}, "only a head of sentences reads a pair: give one text"),
        ({"text": (*PAIR, "it")}, "it is a text or a pair of two, not 3 texts"),
        ({"word": "horse"}, "'horse' is none of the text's words: The cat sees"),
        ({"word": 12}, "there is no word 12: the text has 12, counted from 0"),
        ({"word": -1}, "there is no word -1"),
        ({"text": "a cat a", "word": "a"}, "the text has 'a' 2 times: name a number, of 0, 2"),
    ],
)
def test_what_cannot_be_asked_of_the_discriminator(captum, electra, arguments, message):
    with pytest.raises(ValueError, match=message):
        electra.explain(**{"text": TEXT, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": None}, "an explanation without a head needs the discriminator's head"),
        ({"label": "left"}, "head 'topic' has no label 'left'; it has down, level, up"),
        ({"word": "cat"}, "head 'topic' judges the whole text: leave out word="),
        ({"text": "cat " * 31}, "has 33 tokens with <s> and </s>, the model reads at most 32"),
    ],
)
def test_what_cannot_be_asked_of_a_head_of_sentences(captum, sentences, arguments, message):
    with pytest.raises(ValueError, match=message):
        sentences.explain(**{"text": TEXT, "head": TOPIC, **arguments})


def test_what_cannot_be_asked_of_other_heads(captum, tags, checkpoint):
    with pytest.raises(ValueError, match=f"head '{HEAD}' judges words: name one, as word="):
        tags.explain("w1 w2", HEAD)
    electra = hub.load(checkpoint)
    electra.model.add_head("answers", JointAnswerHead(32))
    with pytest.raises(ValueError, match="'answers' cannot be explained: only those of sentences"):
        electra.explain(TEXT, "answers")


def test_many_texts_are_no_pair(captum, electra):
    with pytest.raises(TypeError, match="a text is a str, not list"):
        electra.explain(["the cat", "a dog"])


def test_without_captum(electra, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.delitem(sys.modules, "captum.attr", raising=False)
    with pytest.raises(ImportError, match=r"needs captum: pip install fairseq_electra\[hub\] "):
        electra.explain(TEXT)
