"""Words that do not belong, what fits in their place, and masks filled.

Words are those of words.py; their characters are those of the text as given, whatever the tokenizer
makes of case, accents and other forms. What the vocabulary lacks is read as `<unk>`: a word with it
gets a score, which says whether anything so rare belongs there, and no suggestions.
"""

from itertools import tee
from typing import Dict, Iterable, Iterator, List, NamedTuple, Tuple

import torch
from torch import Tensor

from fairseq_electra.hub.electra import BATCH, Electra
from fairseq_electra.hub.masks import MASK, Slot, each_slot, make_slot, read_masked, write_words
from fairseq_electra.hub.scores import log_p_data, masked_share
from fairseq_electra.hub.texts import Text
from fairseq_electra.hub.words import Word, split_words

CANDIDATES = 100  # of the generator, which the discriminator reads in place
BEAM = 20  # beginnings that are continued
MOST_PIECES = 3  # of a suggestion
Scored = Tuple[Word, float]


def find_replaced(
    electra: Electra, texts: Iterable[str], batch_size: int = BATCH
) -> Iterator[List[Dict]]:
    """For each text its words: `{"word", "start", "end", "score"}`.

    `score` is the probability that its most suspicious piece was replaced: of the kind of
    replacements that the model was trained on, and as often.
    """
    electra.require_discriminator("replaced")
    for text, scored in score_words(electra, texts, batch_size):
        yield [describe(text, word, score) for word, score in scored]


def score_words(
    electra: Electra, texts: Iterable[str], batch_size: int
) -> Iterator[Tuple[Text, List[Scored]]]:
    """Each text with its words and the probabilities that those were replaced."""
    read, same = tee(map(electra.read, texts))
    rows = electra.each_piece(read, electra.replaced_logits, batch_size)
    for text, logits in zip(same, rows, strict=True):
        scores = logits.sigmoid().tolist()
        yield text, [(word, max(scores[word.first : word.last])) for word in split_words(text)]


def describe(text: Text, word: Word, score: float) -> Dict:
    part = text.text[word.start : word.end]
    return {"word": part, "start": word.start, "end": word.end, "score": score}


def proofread(
    electra: Electra,
    texts: Iterable[str],
    topk: int,
    threshold: float,
    batch_size: int = BATCH,
) -> Iterator[List[Dict]]:
    """For each text its suspicious words, with suggestions; see `suggest`.

    Each is looked at by itself, the others as they are given.
    """
    electra.require_discriminator("proofread")
    electra.require_generator("proofread")
    check_topk(topk)
    unknown = electra.dictionary.unk()
    for text, scored in score_words(electra, texts, batch_size):
        yield [
            {
                **describe(text, word, score),
                "suggestions": suggest(electra, text, word, batch_size)[:topk],
            }
            for word, score in scored
            if score >= threshold and unknown not in text.numbers[word.first : word.last]
        ]


class Candidate(NamedTuple):
    """Pieces in the place of a word, and the generator's log-probability of each."""

    numbers: List[int]
    log_q: List[float]


def suggest(electra: Electra, text: Text, word: Word, batch_size: int) -> List[Dict]:
    """Words that fit in the place of one: `{"word", "score"}`, best first.

    The word gives way to one, two and three masks in turn, whatever its own number of pieces. Each
    time the generator names the CANDIDATES best fillings, the discriminator reads each in place,
    and a filling's number is the sum over its pieces of log p_data (scores.py). Scores are the
    softmax of that number over all, the word itself left out. Suggestions are spelled as the
    tokenizer does, in lower case if it is uncased; they are words for a word, signs for a sign.
    """
    found: Dict[str, float] = {}
    for number in range(1, MOST_PIECES + 1):
        candidates = propose(electra, text, word, number, batch_size)
        for candidate, value in zip(
            candidates, judge_candidates(electra, text, word, candidates, batch_size)
        ):
            spelled = spell(electra, candidate.numbers)
            found[spelled] = max(value, found.get(spelled, value))
    found.pop(spell(electra, text.numbers[word.first : word.last]), None)
    if not found:
        return []
    scores = torch.tensor(list(found.values()), dtype=torch.float64).softmax(0).tolist()
    ranked = sorted(zip(found, scores, strict=True), key=lambda pair: -pair[1])
    return [{"word": spelled, "score": score} for spelled, score in ranked]


def spell(electra: Electra, numbers: List[int]) -> str:
    return "".join(electra.pieces.spellings[number] for number in numbers).strip()


def propose(
    electra: Electra, text: Text, word: Word, number: int, batch_size: int
) -> List[Candidate]:
    """The generator's best fillings of `number` pieces, found from left to right by a beam.

    The first begins as the word does: with a space or none, a letter or a sign; the others
    continue it, with letters.
    """
    mask, pieces = electra.dictionary.index(MASK), electra.pieces
    first = text.numbers[word.first]
    has_letter = pieces.has_letter.eq(any(map(str.isalnum, text.text[word.start : word.end])))
    allowed = pieces.is_text & has_letter & pieces.begins.eq(pieces.begins[first])
    beam = [Candidate([], [])]
    for place in range(number):
        slots = [
            make_slot(
                electra,
                text.numbers,
                word.first,
                word.last,
                [*candidate.numbers, *[mask] * (number - place)],
            )
            for candidate in beam
        ]
        slots = [slot._replace(picked=slot.picked[place : place + 1]) for slot in slots]
        log_q = torch.stack(list(each_slot(electra, slots, log_probs(electra), batch_size)))
        log_q[:, ~allowed] = float("-inf")
        beam = extend(beam, log_q, BEAM if place + 1 < number else CANDIDATES)
        allowed = pieces.is_text & has_letter & ~pieces.begins
    return beam


def log_probs(electra: Electra):
    def compute(tokens: Tensor, picked: Tensor, _: List[Slot]) -> Tensor:
        return electra.word_logits(tokens, picked)[:, 0].log_softmax(-1).cpu()

    return compute


def extend(beam: List[Candidate], log_q: Tensor, most: int) -> List[Candidate]:
    """The best of all one piece longer; log_q (beam, V) is -inf where none may follow."""
    sums = log_q + torch.tensor([sum(candidate.log_q) for candidate in beam])[:, None]
    values, places = sums.flatten().topk(min(most, sums.numel()))
    size = log_q.size(1)
    extended = []
    for place in places[values.isfinite()].tolist():
        numbers, so_far = beam[place // size]
        value = log_q[place // size, place % size].item()
        extended.append(Candidate([*numbers, place % size], [*so_far, value]))
    return extended


def judge_candidates(
    electra: Electra, text: Text, word: Word, candidates: List[Candidate], batch_size: int
) -> List[float]:
    """The sum of log p_data over the pieces of each candidate."""

    def compute(tokens: Tensor, picked: Tensor, _: List[Slot]) -> Tensor:
        return electra.replaced_logits(tokens).gather(1, picked).cpu()

    slots = [
        make_slot(electra, text.numbers, word.first, word.last, candidate.numbers)
        for candidate in candidates
    ]
    if not slots:
        return []
    logits = torch.stack(list(each_slot(electra, slots, compute, batch_size)))
    log_q = torch.tensor([candidate.log_q for candidate in candidates])
    return log_p_data(logits, log_q, masked_share(electra)).sum(1).tolist()


def fill_mask(
    electra: Electra, texts: Iterable[str], topk: int, batch_size: int = BATCH
) -> Iterator[List[Tuple[str, float, str]]]:
    """For each text the generator's best pieces for its `<mask>`: filled text, probability, piece.

    Special symbols are not listed, their probability is not given to others. A piece has a space
    before it where it begins a word, as from fairseq's RobertaHubInterface.fill_mask; masks.py says
    what space the filled text has.
    """
    electra.require_generator("fill_mask")
    check_topk(topk)
    mask, pieces = electra.dictionary.index(MASK), electra.pieces

    def read(text: str) -> Text:
        read = read_masked(electra, text)
        count = read.numbers.count(mask)
        if count != 1:
            raise ValueError(f"fill_mask wants one {MASK} in a text, not {count}: {text!r:.80}")
        return read

    def to_slot(text: Text) -> Slot:
        place = text.numbers.index(mask)
        return make_slot(electra, text.numbers, place, place + 1, [mask])

    def find_best(tokens: Tensor, picked: Tensor, _: List[Slot]) -> List[List[Tuple[float, int]]]:
        probs = electra.word_logits(tokens, picked)[:, 0].softmax(-1).cpu()
        probs[:, ~pieces.is_text] = -1.0
        values, numbers = probs.topk(min(topk, int(pieces.is_text.sum())))
        return [[*zip(*row)] for row in zip(values.tolist(), numbers.tolist())]

    each, same = tee(map(read, texts))
    for text, found in zip(same, each_slot(electra, map(to_slot, each), find_best, batch_size)):
        yield [
            (write_words(text.text, [pieces.spellings[number]]), value, pieces.spellings[number])
            for value, number in found
        ]


def check_topk(topk: int) -> None:
    """ValueError if it is no number of answers."""
    if topk < 1:
        raise ValueError(f"topk must be at least 1, not {topk}")
