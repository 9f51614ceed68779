"""What fine-tuned heads say, as transformers' pipelines put it: labels, tags, answers.

In: an Electra whose task is fairseq's sentence_prediction, electra_tagging or electra_answers; any
text. Out: dicts for each text, plain Python. Texts are cut into tokens as fine-tuning cuts them.
"""

import re
from functools import lru_cache
from itertools import tee
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Union,
)

import torch
from torch import Tensor

from fairseq_electra.answers.decode import HEAD as ANSWER_HEAD
from fairseq_electra.answers.decode import Candidates, find_candidates, read_span
from fairseq_electra.data.answer_dataset import AnswerDataset
from fairseq_electra.data.answer_windows import WindowSizes
from fairseq_electra.data.squad import Question, Squad
from fairseq_electra.data.tokenizer import Span
from fairseq_electra.hub.answer import MAX_ANSWER_LENGTH, N_BEST
from fairseq_electra.hub.text_words import find_words
from fairseq_electra.hub.texts import check_text, run_sorted
from fairseq_electra.tasks.electra_tagging import HEAD as TAGGING_HEAD
from fairseq_electra.text.prepare_task import cut_pieces

if TYPE_CHECKING:
    from fairseq_electra.hub.electra import Electra

BATCH = 32  # texts
ENTITY_TAG = re.compile("([BIES])-(.+)")
SCRIPTS = {
    "classify": "sentences (scripts/finetune.sh)",
    "tag": "tagged words (scripts/finetune_tagging.sh)",
    "answer": "questions (scripts/finetune_squad.sh)",
}
Sentences = Union[str, Tuple[str, str]]


def require_head(electra: "Electra", what: str, name: Optional[str]) -> str:
    """The name of the head that `what` needs; ValueError if the model has none."""
    if name is None or name not in electra.heads:
        known = ", ".join(electra.heads) or "none"
        raise ValueError(
            f"{what} needs a model that was fine-tuned on {SCRIPTS[what]}; "
            f"{electra.checkpoint} was not (its heads: {known})"
        )
    return name


# --- labels


def classify(
    electra: "Electra",
    texts: Iterable[Sentences],
    top_k: Optional[int] = 1,
    batch_size: int = BATCH,
) -> Iterator[List[Dict[str, Any]]]:
    """The labels of each text or pair; see Electra.classify.

    Scores are a softmax over all labels. What is longer than the model's positions is cut, of a
    pair the longer text, as in fine-tuning.
    """
    cfg = electra.task.cfg
    head = require_head(electra, "classify", getattr(cfg, "classification_head_name", None))
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, or None for all, not {top_k}")
    labels = name_labels(electra)

    @torch.inference_mode()
    def run(batch: List[List[int]]) -> List[List[Dict[str, Any]]]:
        scores, _ = electra.model(electra.pad(batch), classification_head_name=head)
        scores = scores.float()
        if not cfg.regression_target:
            scores = scores.softmax(-1)
        return [rank_labels(labels, row, top_k) for row in scores.cpu()]

    yield from run_sorted((read_sentences(electra, text) for text in texts), len, run, batch_size)


def name_labels(electra: "Electra") -> List[str]:
    """Of the head's outputs; that of a regression, which has none, as transformers calls it."""
    cfg = electra.task.cfg
    if cfg.regression_target:
        return [f"LABEL_{number}" for number in range(cfg.num_classes)]
    dictionary = electra.task.label_dictionary
    return [dictionary[dictionary.nspecial + number] for number in range(cfg.num_classes)]


def rank_labels(labels: List[str], scores: Tensor, top_k: Optional[int]) -> List[Dict[str, Any]]:
    """The best of labels (N,) with their scores (N,)."""
    best = scores.argsort(descending=True, stable=True)[:top_k].tolist()
    return [{"label": labels[number], "score": scores[number].item()} for number in best]


def read_sentences(electra: "Electra", text: Sentences) -> List[int]:
    """Tokens of a text or a pair, as prepare_task.py and the task make them."""
    parts = text if isinstance(text, tuple) else (text,)
    if len(parts) not in (1, 2):
        raise ValueError(f"a text, or a tuple of two, not of {len(parts)}: {text!r:.60}")
    dictionary = electra.dictionary
    numbers = [electra.read(part).numbers for part in parts]
    tokens = [dictionary.bos()]
    for part in cut_pieces(numbers, electra.max_tokens - 2):
        tokens += [*(part or [dictionary.unk()]), dictionary.eos()]
    return tokens


# --- tags


class Words(NamedTuple):
    """A text as a tagger reads it: each word in pieces for itself, as in its training data."""

    text: str
    spans: List[Span]  # (start, end) of each word in characters
    numbers: List[int]  # of all pieces in the dictionary
    firsts: List[int]  # of each word, the number of its first piece


def tag(
    electra: "Electra", texts: Iterable[str], aggregate: bool = True, batch_size: int = BATCH
) -> Iterator[List[Dict[str, Any]]]:
    """The tags of each text's words, or its entities; see Electra.tag.

    A word's tag and score are those of its first piece. Entities are joined as by transformers'
    aggregation_strategy "first" and seqeval: B- and S- begin one, E- and S- end it, so does another
    type; tags without such a mark (parts of speech) are joined with equal neighbours. Words with
    the tag O are in no entity. An entity's score is the mean of its words'.
    """
    require_head(electra, "tag", TAGGING_HEAD if hasattr(electra.task, "labels") else None)
    labels = electra.task.labels

    @torch.inference_mode()
    def compute(tokens: Tensor) -> Tensor:
        logits, _ = electra.model(tokens, classification_head_name=TAGGING_HEAD)
        return logits.float().softmax(-1)

    read, kept = tee(read_words(electra, text) for text in texts)
    for words, scores in zip(kept, electra.each_piece(read, compute, batch_size), strict=True):
        best = scores[words.firsts].max(-1)
        tagged = [
            {
                "entity": labels[number],
                "score": score,
                "word": words.text[start:end],
                "start": start,
                "end": end,
            }
            for number, score, (start, end) in zip(
                best.indices.tolist(), best.values.tolist(), words.spans, strict=True
            )
        ]
        yield join_entities(tagged, words.text) if aggregate else tagged


def read_words(electra: "Electra", text: str) -> Words:
    """A text's words; one without a piece, such as a control character, is <unk>."""
    check_text(text)
    spans = find_words(text)
    dictionary = electra.dictionary
    numbers: List[int] = []
    firsts = []
    for pieces in electra.tokenizer.encode_lines([text[start:end] for start, end in spans]):
        firsts.append(len(numbers))
        numbers += [dictionary.index(piece) for piece in pieces] or [dictionary.unk()]
    return Words(text, spans, numbers, firsts)


def join_entities(tagged: List[Dict[str, Any]], text: str) -> List[Dict[str, Any]]:
    """Words with their tags -> the entities that the tags mark."""
    groups: List[Tuple[str, List[Dict[str, Any]]]] = []  # type and words
    last = ("", "")  # mark and type of the word before
    for word in tagged:
        found = ENTITY_TAG.fullmatch(word["entity"])
        mark, kind = found.groups() if found else ("I", word["entity"])
        if mark in "BS" or last[0] in "ES" or kind != last[1]:
            groups.append((kind, []))
        groups[-1][1].append(word)
        last = (mark, kind)
    return [
        {
            "entity_group": kind,
            "score": sum(word["score"] for word in words) / len(words),
            "word": text[words[0]["start"] : words[-1]["end"]],
            "start": words[0]["start"],
            "end": words[-1]["end"],
        }
        for kind, words in groups
        if kind != "O"
    ]


# --- answers


def answer(electra: "Electra", question: str, context: str, top_k: int = 1) -> List[Dict[str, Any]]:
    """The best answers to a question; see Electra.answer.

    Scores are a softmax over the N_BEST best texts of all windows, scored as in predict_answers.py,
    and, if the model was fine-tuned on SQuAD 2.0, "": by so much above the best text as the head
    says (its logit of no answer). So "" is first where no answer is likelier than any. An empty
    context has the answer "" alone.
    """
    require_head(electra, "answer", ANSWER_HEAD)
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, not {top_k}")
    for part in (question, context):
        check_text(part)
    if not question.strip():
        raise ValueError("the question is empty")
    squad = Squad([context], [Question("", question, 0, [], False)], has_impossible=True)
    task = electra.task
    sizes = (task.cfg.tokens_per_sample, task.cfg.doc_stride, task.cfg.max_query_length)
    dataset = AnswerDataset(
        squad, electra.tokenizer, electra.dictionary, WindowSizes(*sizes), to_learn=False
    )
    found = find_candidates(electra.model, dataset, MAX_ANSWER_LENGTH, N_BEST)[0]
    places = [read_span(span, dataset.passage_of(0)) for span in found.spans]
    scores = score_answers(found, knows_impossible(Path(task.cfg.data)))
    best = scores.argsort(descending=True, stable=True)[:top_k].tolist()
    answers = [*places, (0, 0, "")]
    return [
        dict(zip(("score", "start", "end", "answer"), (scores[number].item(), *answers[number])))
        for number in best
    ]


def score_answers(found: Candidates, with_null: bool) -> Tensor:
    """Probabilities of the texts and, as the last one if `with_null` or without texts, of none."""
    if not found.spans:
        return torch.ones(1)
    scores = [span.score for span in found.spans]
    if with_null:
        scores.append(scores[0] + found.na_logit)
    return torch.tensor(scores, dtype=torch.float64).softmax(0)


@lru_cache(maxsize=16)
def knows_impossible(data: Path) -> bool:
    """Whether a task's questions say if they can be answered; true if they are not there."""
    path = data / "train.json"
    return not path.is_file() or b'"is_impossible"' in path.read_bytes()
