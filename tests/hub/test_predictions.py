"""Labels, tags and answers: as transformers' pipelines, as predict_*.py, and by properties."""

import random
import re
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from fairseq_electra import hub
from fairseq_electra.__main__ import main
from fairseq_electra.answers.decode import HEAD as ANSWER_HEAD
from fairseq_electra.answers.decode import predict_answers
from fairseq_electra.data.conll import Sentence
from fairseq_electra.data.squad import read_squad
from fairseq_electra.hub.predict_sentences import load_predictor, predict
from fairseq_electra.hub.predict_tags import predict as predict_tags
from fairseq_electra.hub.predictions import answer, classify, join_entities, tag
from fairseq_electra.tasks.electra_tagging import HEAD as TAGGING_HEAD
from fairseq_electra.text import prepare_task
from finetuned import WORDS, make_tokenizer, save_finetuned
from squad_bin import make_squad_bin
from tagging_bin import make_sentences, make_tag_bin

CLASSES = ["bad", "good", "so-so"]
HEAD = "some_head"
SIGNS = [*",.!?"]


def make_text(rng, words=8):
    """Words, some of several pieces, and signs after some of them."""
    pool = [word for word in WORDS.split() if word.isascii()] + ["catdog", "Redly", "treehouse"]
    return " ".join(
        rng.choice(pool) + rng.choice(["", "", "", *SIGNS]) for _ in range(rng.randint(1, words))
    )


def save_sentences(folder, *options, rows=None):
    """What prepare_task.py makes of random texts; the texts of the held-out part."""
    rng = random.Random(5)
    rows = rows or [(label, make_text(rng)) for label in CLASSES * 4]
    (folder / "tsv").mkdir(parents=True)
    for split in ("train", "valid"):
        lines = "".join("\t".join(row) + "\n" for row in rows)
        (folder / "tsv" / f"{split}.tsv").write_text(lines)
    (folder / "tokenizer").mkdir()
    make_tokenizer().save(folder / "tokenizer")
    arguments = (folder / "bin", folder / "tokenizer", folder / "tsv", *options)
    prepare_task.run(prepare_task.parse_args([str(argument) for argument in arguments]))
    return folder / "bin", [row[1:] for row in rows]


def save_classifier(folder, classes=3, **options):
    options = {"init_token": 0, "max_positions": 32, "num_classes": classes, **options}
    fixed = {"regression_target": classes == 1, "classification_head_name": HEAD, "seed": 1}
    return save_finetuned(folder, "sentence_prediction", **fixed, **options)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """A folder with a classifier, and the held-out texts."""
    folder, rows = save_sentences(tmp_path_factory.mktemp("sentences"))
    save_classifier(folder)
    return folder, [text for (text,) in rows]


@pytest.fixture(scope="module")
def classifier(sentences):
    return hub.load(sentences[0])


@pytest.fixture(scope="module")
def tagger(tagger_path):
    return hub.load(tagger_path)


@pytest.fixture(scope="module")
def load_pipeline(tmp_path_factory):
    """A function that exports a checkpoint and loads it with transformers' pipeline of a task."""
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")

    def load(task, checkpoint, head, **options):
        out = tmp_path_factory.mktemp("hf") / "out"
        main(["export-hf", str(checkpoint), str(out)])
        return transformers.pipeline(task, model=str(out / head), device="cpu", **options)

    return load


# --- labels


def check_labels(ours, theirs):
    assert [each["label"] for each in ours] == [each["label"] for each in theirs]
    assert [each["score"] for each in ours] == pytest.approx(
        [each["score"] for each in theirs], abs=1e-5
    )


def test_labels_are_transformers(sentences, classifier, load_pipeline):
    folder, texts = sentences
    theirs = load_pipeline("text-classification", folder / "checkpoint.pt", HEAD)
    texts = [*texts, "It was good, and the 中文 catdog sees!", "old " * 60]
    seen = set()
    for text, ours in zip(texts, classifier.classify(texts, top_k=None)):
        check_labels(ours, theirs(text, top_k=None, truncation=True, max_length=32))
        assert sum(each["score"] for each in ours) == pytest.approx(1, abs=1e-5)
        check_labels(classifier.classify(text), ours[:1])
        check_labels(classifier.classify(text, top_k=2), ours[:2])
        seen.add(round(ours[0]["score"], 4))
    assert len(seen) > 5
    pairs = [(one, other) for one, other in zip(texts[:5], texts[5:])]
    for (one, other), ours in zip(pairs, classifier.classify(pairs, top_k=None)):
        check_labels(ours, theirs({"text": one, "text_pair": other}, top_k=None))


def test_labels_are_those_of_the_command_for_files(sentences, classifier):
    folder, texts = sentences
    expected = predict(load_predictor(folder / "checkpoint.pt", folder), "valid")
    assert [each["label"] for (each,) in classifier.classify(texts)] == expected


def test_a_regression_gives_its_number(tmp_path, load_pipeline):
    rng = random.Random(6)
    rows = [(f"{n / 4}", make_text(rng, 2), make_text(rng, 2)) for n in range(6)]
    folder, pairs = save_sentences(tmp_path, "--regression", "--pairs", rows=rows)
    checkpoint = save_classifier(folder, classes=1)
    ours = hub.load(folder).classify(pairs)
    numbers = predict(load_predictor(checkpoint, folder), "valid")
    assert [each["score"] for (each,) in ours] == pytest.approx(list(map(float, numbers)), abs=2e-6)
    theirs = load_pipeline("text-classification", checkpoint, HEAD)
    for (one, other), each in zip(pairs, ours):
        check_labels(each, theirs({"text": one, "text_pair": other}, top_k=None))


def test_a_long_text_is_cut_as_in_fine_tuning(classifier):
    long, short = "old " * 50, "it was good"
    (one,) = classify(classifier, [(long, short)], None)
    check_labels(one, classifier.classify(("old " * 26, short), None))  # 3 pieces and 3 specials
    check_labels(classifier.classify(long, None), classifier.classify("old " * 30, None))
    assert classifier.classify("", None) != classifier.classify("it", None)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_the_batch_does_not_matter(sentences, classifier, tagger, batch_size):
    texts = [*sentences[1], "", "the old house and the small tree " * 9]
    for ours, text in zip(classify(classifier, texts, None, batch_size), texts, strict=True):
        check_labels(ours, classifier.classify(text, None))
    for ours, text in zip(tag(tagger, texts, False, batch_size), texts, strict=True):
        alone = tagger.tag(text, aggregate=False)
        assert [{**each, "score": 0} for each in ours] == [{**each, "score": 0} for each in alone]
        scores = [each["score"] for each in alone]
        assert [each["score"] for each in ours] == pytest.approx(scores, abs=1e-5)


# --- tags


def test_entities_are_transformers(tagger, tagger_path, load_pipeline):
    """Where words are cut alike: signs are words there too, but no sign within a word."""
    theirs = load_pipeline(
        "token-classification", tagger_path, TAGGING_HEAD, aggregation_strategy="first"
    )
    rng = random.Random(7)
    texts = [re.sub("[,.]", "!", make_text(rng, 4)) for _ in range(30)]
    kinds = set()
    for text, ours in zip(texts, tagger.tag(texts), strict=True):
        expected = theirs(text)
        for key in ("entity_group", "start", "end"):
            assert [each[key] for each in ours] == [each[key] for each in expected], text
        scores = [each["score"] for each in expected]
        assert [each["score"] for each in ours] == pytest.approx(scores, abs=1e-5)
        assert all(text[each["start"] : each["end"]] == each["word"] for each in ours)
        kinds.update(each["entity_group"] for each in ours)
        kinds.update("joined" for each in ours if " " in each["word"])
    assert kinds == {"LOC", "PER", "joined"}


def test_words_have_the_tags_of_the_command_for_files(tmp_path):
    """Words without a piece, and words of several, are in it."""
    folder = make_tag_bin(tmp_path / "bin", train=5, valid=2)
    save_finetuned(folder, "electra_tagging", tokens_per_sample=32)
    tagger = hub.load(folder)
    given = make_sentences(20, seed=8)
    given.append(Sentence(["w3", "\x01", "w12", ".", "?!", "w1111"], [], []))
    dataset = tagger.task.make_dataset([each._replace(tags=[]) for each in given], "some")
    expected = predict_tags(tagger.model, dataset, tagger.task.labels)
    ours = tagger.tag([" ".join(sentence.words) for sentence in given], aggregate=False)
    assert [[each["entity"] for each in words] for words in ours] == expected
    assert len({name for names in expected for name in names}) > 2


def test_every_word_of_a_long_text_has_a_tag(tagger):
    text = "the old house sees a small tree " * 20
    ours = tagger.tag(text, aggregate=False)
    assert [each["word"] for each in ours] == text.split()
    alone = tagger.tag("the old house sees a small tree " * 4, aggregate=False)  # one window
    scores = [each["score"] for each in alone[:8]]  # the first half of the first window's
    assert [each["score"] for each in ours[:8]] != pytest.approx(scores, abs=1e-4)  # other context
    assert tagger.tag("") == [] and tagger.tag(" \n") == []


def words_of(tags):
    """Words of one letter with these tags."""
    return [
        {"entity": name, "score": 1 / (n + 1), "word": "x", "start": 2 * n, "end": 2 * n + 1}
        for n, name in enumerate(tags)
    ]


TAGS = ["O", *(f"{mark}-{kind}" for mark in "BIES" for kind in ("A", "B-C"))]


@given(st.lists(st.sampled_from(TAGS), max_size=9))
def test_entities_are_seqevals(tags):
    found = join_entities(words_of(tags), "x " * len(tags))
    places = [(each["entity_group"], each["start"] // 2, each["end"] // 2) for each in found]
    assert places == get_entities(tags)
    for each, (_, first, last) in zip(found, places):
        scores = [1 / (n + 1) for n in range(first, last + 1)]
        assert each["score"] == pytest.approx(sum(scores) / len(scores))


def test_equal_neighbours_without_marks_are_joined():
    found = join_entities(words_of(["NN", "NN", "VB", "O", "NN"]), "a b c d e")
    assert [(each["entity_group"], each["word"]) for each in found] == [
        *(("NN", "a b"), ("VB", "c"), ("NN", "e")),
    ]


# --- answers


@pytest.fixture(params=["joint", "linear"])
def make_answerer(request, tmp_path):
    """A function that makes a model of a version of SQuAD, and its folder."""

    def make(version):
        folder = make_squad_bin(tmp_path / version, version, train=3, valid=4, words=14)
        options = {"tokens_per_sample": 24, "max_query_length": 6, "doc_stride": 5}
        save_finetuned(folder, "electra_answers", answer_head=request.param, **options)
        return hub.load(folder), folder

    return make


def ask_all(electra, squad, top_k):
    return [
        electra.answer(question.text, squad.passages[question.passage], top_k)
        for question in squad.questions
    ]


def test_answers_are_those_of_the_command_for_files(make_answerer):
    """Their order and texts; "" is first just where its probability there is over one half."""
    electra, folder = make_answerer("v2.0")
    squad = read_squad(folder / "valid.json")
    dataset = electra.task.make_dataset(squad, folder, to_learn=False)
    expected = predict_answers(electra.model, dataset, 30, 20)
    assert len(dataset) > len(squad.questions)  # windows
    found = ask_all(electra, squad, 21)
    for ours, question in zip(found, squad.questions, strict=True):
        passage = squad.passages[question.passage]
        answers, na_prob = expected[question.id]
        assert sum(each["score"] for each in ours) == pytest.approx(1)
        scores = [each["score"] for each in ours]
        assert scores == sorted(scores, reverse=True)
        texts = [each["answer"] for each in ours]
        assert [text for text in texts if text] == [text for text, _ in answers]
        assert texts.count("") == 1 and (texts[0] == "") == (na_prob > 0.5)
        assert all(passage[each["start"] : each["end"]] == each["answer"] for each in ours)
    assert ask_all(electra, squad, 1) == [each[:1] for each in found]


@pytest.mark.parametrize("make_answerer", ["joint"], indirect=True)
def test_without_unanswerable_questions_every_one_has_an_answer(make_answerer):
    electra, folder = make_answerer("1.1")
    squad = read_squad(folder / "valid.json")
    assert all(each["answer"] for found in ask_all(electra, squad, 30) for each in found)
    with pytest.raises(ValueError, match=r"'answer_head' reads a question .* use answer\(\)"):
        electra.predict("answer_head", electra.encode("What is red?", "Red w1"))
    nothing = [{"score": 1.0, "start": 0, "end": 0, "answer": ""}]
    assert electra.answer("What is red?", " ") == nothing
    (folder / "train.json").unlink()  # as where the model alone was given away
    other = shutil.copytree(folder, folder.with_name("other"))
    found = hub.load(other, data=other).answer("What is red?", "Red w1", 30)
    assert any(each["answer"] == "" for each in found)


# --- what does not fit


def test_a_model_without_the_head_is_named(electra, classifier, tagger):
    with pytest.raises(ValueError, match=r"classify needs .* on sentences .*heads: tagging_head\)"):
        tagger.classify("the cat")
    with pytest.raises(ValueError, match=rf"tag needs .* on tagged words .*heads: {HEAD}\)"):
        classifier.tag(["the cat"])
    with pytest.raises(ValueError, match=r"answer needs .* on questions .*heads: none\)"):
        electra.answer("What?", "the cat")


def test_arguments_without_a_meaning_are_named(classifier, tagger, tmp_path):
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        classifier.classify("the cat", top_k=0)
    with pytest.raises(ValueError, match="a tuple of two, not of 3"):
        classifier.classify(("a", "cat", "dog"))
    for many in (classifier.classify, tagger.tag):
        with pytest.raises(TypeError, match="a text is a str, not int: 5"):
            many([5])
    folder = make_squad_bin(tmp_path, train=1, valid=1)
    save_finetuned(folder, "electra_answers", tokens_per_sample=24, max_query_length=6)
    answerer = hub.load(folder)
    with pytest.raises(ValueError, match="the question is empty"):
        answer(answerer, " ", "the cat")
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        answer(answerer, "What?", "the cat", 0)
    with pytest.raises(TypeError, match="a text is a str"):
        answer(answerer, "What?", None)
    assert torch.is_tensor(answerer.model.classification_heads[ANSWER_HEAD].start.weight)
