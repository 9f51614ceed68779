"""A model and questions in; for each question its best answers out, as text of the passage.

Which pairs of start and end count is as in the authors' finetune/qa/qa_metrics.
"""

from typing import Dict, Iterator, List, NamedTuple, Tuple

import numpy as np
import torch

from fairseq_electra.data.answer_dataset import AnswerDataset
from fairseq_electra.data.answer_windows import Passage, Window, choose_windows
from fairseq_electra.modules.answer_head import AnswerBeam

HEAD = "answer_head"  # its name in the model and in checkpoints
BATCH = 16  # windows


class AnswerSpan(NamedTuple):
    """Pieces `first` to `last` of a passage as an answer."""

    score: float
    first: int
    last: int


class Prediction(NamedTuple):
    """For one question."""

    answers: List[Tuple[str, float]]  # texts with their scores, best first; [] if there are none
    na_prob: float  # of no answer, in [0, 1]


class Candidates(NamedTuple):
    """For one question."""

    spans: List[AnswerSpan]  # of different texts, best first; [] if there are none
    na_logit: float  # of no answer; inf for an empty passage


def predict_answers(
    model, dataset: AnswerDataset, max_answer_length: int, n_best: int
) -> Dict[str, Prediction]:
    """The best answers of each question, by id; see find_candidates."""
    predictions = {}
    for number, found in find_candidates(model, dataset, max_answer_length, n_best).items():
        passage = dataset.passage_of(number)
        answers = [(read_span(span, passage)[2], span.score) for span in found.spans]
        na_prob = torch.tensor(found.na_logit, dtype=torch.float64).sigmoid().item()
        predictions[dataset.squad.questions[number].id] = Prediction(answers, na_prob)
    return predictions


def find_candidates(
    model, dataset: AnswerDataset, max_answer_length: int, n_best: int
) -> Dict[int, Candidates]:
    """The best answers of each question, by number.

    Args:
        max_answer_length: in pieces.
        n_best: most answers a question.
    """
    beams: Dict[int, List[Tuple[Window, AnswerBeam]]] = {number: [] for number in dataset.queries}
    for window, beam in run_windows(model, dataset):
        beams[window.question].append((window, beam))
    score_impossible = model.classification_heads[HEAD].score_impossible
    candidates = {}
    for number, own in beams.items():
        passage, shift = dataset.passage_of(number), dataset.passage_start(number)
        spans = join_windows(own, len(passage.tokens), shift)
        short = [span for span in spans if span.last - span.first < max_answer_length]
        best = rank_spans(short, passage, n_best)
        na_logit = float("inf")  # of an empty passage
        if best:
            null = min(float(beam.null_scores) for _, beam in own)
            na_logit = score_impossible(null, best[0].score)
        candidates[number] = Candidates(best, na_logit)
    return candidates


def run_windows(model, dataset: AnswerDataset) -> Iterator[Tuple[Window, AnswerBeam]]:
    """Each window with its own part of the beam, in numpy."""
    device = next(model.parameters()).device
    for batch in dataset.batch_by_size(np.argsort(dataset.sizes), max_sentences=BATCH):
        net_input = dataset.collater([dataset[index] for index in batch])["net_input"]
        net_input = {name: tensor.to(device) for name, tensor in net_input.items()}
        with torch.inference_mode():
            beam, _ = model(**net_input, classification_head_name=HEAD)
        arrays = [part.cpu().numpy() for part in beam]
        for row, index in enumerate(batch):
            yield dataset.windows[index], AnswerBeam(*(array[row] for array in arrays))


def join_windows(
    beams: List[Tuple[Window, AnswerBeam]], num_pieces: int, shift: int
) -> List[AnswerSpan]:
    """The pairs of start and end of one question, each from the window in which its start counts.

    Args:
        beams: the question's windows, in any order.
        num_pieces: of the passage.
        shift: position of the passage's first piece in a window's tokens.
    """
    beams = sorted(beams, key=lambda pair: pair[0].first)
    chosen = choose_windows([(window.first, window.length) for window, _ in beams], num_pieces)
    spans = []
    for number, (window, beam) in enumerate(beams):
        counts = chosen[window.first :][: window.length] == number
        spans += find_spans(beam, counts, window.first, shift)
    return spans


def find_spans(beam: AnswerBeam, counts: np.ndarray, first: int, shift: int) -> List[AnswerSpan]:
    """The pairs of one window's beam that are spans of its passage.

    Args:
        counts: (length,) which of the window's pieces an answer may start with.
        first: number of the window's first piece in the passage.
        shift: its position in the window's tokens.
    """
    starts, ends = beam.starts - shift, beam.ends - shift  # (K,), (K, K)
    scores = beam.start_scores[:, None] + beam.end_scores
    is_start = (starts >= 0) & (starts < len(counts))
    is_start &= counts[np.where(is_start, starts, 0)]
    valid = is_start[:, None] & (ends >= starts[:, None]) & (ends < len(counts))
    return [
        AnswerSpan(float(scores[i, j]), int(starts[i]) + first, int(ends[i, j]) + first)
        for i, j in np.argwhere(valid & np.isfinite(scores))
    ]


def rank_spans(spans: List[AnswerSpan], passage: Passage, n_best: int) -> List[AnswerSpan]:
    """The best of different texts of the passage, none empty, best first."""
    best: Dict[str, AnswerSpan] = {}
    for span in sorted(spans, key=lambda span: -span.score):
        text = read_span(span, passage)[2]
        if text and text not in best:
            best[text] = span
        if len(best) == n_best:
            break
    return list(best.values())


def read_span(span: AnswerSpan, passage: Passage) -> Tuple[int, int, str]:
    """First and past-the-last character of a span, and its text."""
    start, end = int(passage.spans[span.first, 0]), int(passage.spans[span.last, 1])
    return start, end, passage.text[start:end]
