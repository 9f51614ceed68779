"""Words that do not belong, what fits in their place, and masks filled.

Words are those of words.py; their characters are those of the text as given, whatever the tokenizer
makes of case, accents and other forms. What the vocabulary lacks is read as `<unk>`: a word with it
gets a score, which says whether anything so rare belongs there, and no suggestions.
"""

from itertools import islice, tee
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

import torch
from torch import Tensor

from fairseq_electra.hub.electra import BATCH, Electra
from fairseq_electra.hub.masks import MASK, Slot, each_slot, make_slot, read_masked, write_words
from fairseq_electra.hub.scores import log_p_data, masked_share
from fairseq_electra.hub.texts import Text
from fairseq_electra.hub.words import Word, split_words

CANDIDATES = 100  # of the generator, which the discriminator reads in place
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
        chosen = [
            (word, score)
            for word, score in scored
            if score >= threshold and unknown not in text.numbers[word.first : word.last]
        ]
        fitting = suggest(electra, text, [word for word, _ in chosen], batch_size)
        yield [
            {**describe(text, word, score), "suggestions": suggestions[:topk]}
            for (word, score), suggestions in zip(chosen, fitting, strict=True)
        ]


def suggest(
    electra: Electra, text: Text, words: Sequence[Word], batch_size: int
) -> List[List[Dict]]:
    """For each word those that fit in its place: `{"word", "score"}`, best first.

    Of Electric, p_data is exp(-E) of the discriminator alone.

    The word gives way to one mask, whatever its number of pieces. The discriminator reads each of
    the generator's CANDIDATES best pieces in place; they are ranked by p_data (scores.py), and
    their scores are their shares of it, the word itself left out. A suggestion begins as the word
    does, with a space or none, and is a word for a word, a sign for a sign. It is spelled as the
    tokenizer does, in lower case if it is uncased.
    """
    mask = electra.dictionary.index(MASK)
    slots = [make_slot(electra, text.numbers, word.first, word.last, [mask]) for word in words]

    def find_best(tokens: Tensor, picked: Tensor, slots: List[Slot]) -> List[Tuple[Tensor, Tensor]]:
        log_q = electra.word_logits(tokens, picked)[:, 0].log_softmax(-1).cpu()
        return [
            find_candidates(electra, row, slot.originals)
            for row, slot in zip(log_q, slots, strict=True)
        ]

    def judge(tokens: Tensor, picked: Tensor, _: List[Slot]) -> List[float]:
        return electra.disc_logits(tokens).gather(1, picked)[:, 0].tolist()

    candidates = list(each_slot(electra, slots, find_best, batch_size))
    in_place = (
        make_slot(electra, text.numbers, word.first, word.last, [number])
        for word, (_, numbers) in zip(words, candidates, strict=True)
        for number in numbers.tolist()
    )
    judged = each_slot(electra, in_place, judge, batch_size)
    suggestions = []
    for log_q, numbers in candidates:
        logits = torch.tensor(list(islice(judged, len(numbers))))
        if not electra.is_electric:
            logits = -log_p_data(logits, log_q, masked_share(electra))
        shares = (-logits).softmax(0)  # of Electric they are energies
        ranked = sorted(zip(numbers.tolist(), shares.tolist()), key=lambda pair: -pair[1])
        spellings = electra.pieces.spellings
        suggestions.append(
            [{"word": spellings[number].strip(), "score": share} for number, share in ranked]
        )
    return suggestions


def find_candidates(electra: Electra, log_q: Tensor, word: Sequence[int]) -> Tuple[Tensor, Tensor]:
    """Log-probabilities and numbers (N,) of the best pieces that may stand for a word's.

    Args:
        log_q: (V,) of the generator.
    """
    pieces = electra.pieces
    is_word = any(pieces.has_letter[number] for number in word)
    allowed = pieces.is_text & pieces.has_letter.eq(is_word)
    allowed &= pieces.begins.eq(pieces.begins[word[0]])
    if len(word) == 1:
        allowed[word[0]] = False
    log_q = log_q.masked_fill(~allowed, float("-inf"))
    values, numbers = log_q.topk(min(CANDIDATES, int(allowed.sum())))
    return values, numbers


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
