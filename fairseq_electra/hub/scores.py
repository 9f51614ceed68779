"""One number for a text, and labels by such numbers.

With l the discriminator's logit of a piece, positive where it looks replaced, and q the generator's
probability of the piece where it alone is masked, a text's score is the sum over its pieces of

    discriminator   log sigmoid(-l)                          one pass
    generator       log q, the pseudo-log-likelihood         one pass a piece
    combined        log p_data, see `log_p_data`             both
    electric        -E, the pseudo-log-likelihood            one pass

in nats, `<s>` and `</s>` left out; 0 for an empty text. A sum falls with each further piece: it
compares texts of about the same length, such as a sentence and its correction. For others divide it
by the number of pieces, `len(electra.encode(text)) - 2`. The discriminator's log-probability is
not that of the text, but that nothing in it was replaced.

The last is for a checkpoint of `--criterion electric`, whose discriminator gives energies E. There
`generator` is one pass too, `discriminator` is the log-probability that no piece is noise, with l
of `noise_logits`, and `combined` is refused. Long texts are read in windows: the discriminator as
everywhere, the generator with each masked piece in the middle of one.
"""

import math
from itertools import islice, repeat, tee
from string import Formatter
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_electra.data.answer_windows import cut_windows
from fairseq_electra.data.tokenizer import Span
from fairseq_electra.hub import SCORES
from fairseq_electra.hub.electra import BATCH, Electra
from fairseq_electra.hub.masks import MASK, Slot, each_slot, make_slot
from fairseq_electra.hub.model import HubModel
from fairseq_electra.hub.texts import Text, run_sorted
from fairseq_electra.modules.two_towers import noise_logits
from fairseq_electra.tasks.electra import ElectraTaskConfig

FIELDS = ("text", "label")
DTYPE = torch.float64  # of what is summed


def score_texts(
    electra: Electra, texts: Iterable[str], by: Optional[str], batch_size: int = BATCH
) -> Iterator[float]:
    """The score of each text, in nats; `by` is one of SCORES, None that of `name_own_kind`."""
    if by is None:
        by = name_own_kind(electra)
    if by not in SCORES:
        raise ValueError(f"by must be one of {', '.join(SCORES)}, not {by!r}")
    for scores in score_pieces(electra, map(electra.read, texts), [by], batch_size):
        yield scores[by].sum().item()


def score_pieces(
    model: HubModel, texts: Iterable[Text], kinds: Sequence[str], batch_size: int = BATCH
) -> Iterator[Dict[str, Tensor]]:
    """What each piece of each text adds to its scores, by kind (P,) float64.

    Args:
        model: Electra, or for the generator's score alone MaskedLM.
        kinds: of SCORES; both networks run once, whatever of them is needed.

    Raises:
        ValueError: if the model lacks what one of the kinds needs.
    """
    for kind in kinds:
        check_kind(model, kind)
    if set(kinds) == {"generator"}:
        rows = zip(repeat(None), each_log_q(model, texts, batch_size))
    elif set(kinds) == {name_own_kind(model)}:
        rows = zip(model.each_piece(texts, model.disc_logits, batch_size), repeat(None))
    else:
        texts, same = tee(texts)
        logits = model.each_piece(texts, model.disc_logits, batch_size)
        rows = zip(logits, each_log_q(model, same, batch_size), strict=True)
    for logits, log_q in rows:
        yield {kind: score_kind(model, kind, logits, log_q) for kind in kinds}


def score_kind(
    model: HubModel, kind: str, logits: Optional[Tensor], log_q: Optional[Tensor]
) -> Tensor:
    """What pieces add to a score of one kind, (P,) float64, by what both networks say of them."""
    if kind == "generator":
        return log_q
    logits = logits.to(DTYPE)
    if kind == "electric":
        return -logits
    if kind == "discriminator":
        if model.is_electric:
            logits = noise_logits(logits, log_q, masked_share(model))
        return F.logsigmoid(-logits)
    return log_p_data(logits, log_q, masked_share(model))


def name_own_kind(model: HubModel) -> str:
    """The score that a model's discriminator gives alone."""
    return "electric" if model.is_electric else "discriminator"


def list_kinds(model: HubModel) -> List[str]:
    """Those of SCORES that a model can give.

    Raises:
        ValueError: if it has neither a generator nor a discriminator's head.
    """
    found, reasons = [], []
    for kind in SCORES:
        try:
            check_kind(model, kind)
            found.append(kind)
        except ValueError as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    return found


def check_kind(model: HubModel, kind: str) -> None:
    """ValueError if a model lacks what a score needs."""
    if kind != "generator":
        model.require_discriminator(f"score by {kind}")
    if kind == "electric" and not model.is_electric:
        raise ValueError(
            f"{model.checkpoint} gives no energies: score by electric is for --criterion electric"
        )
    if kind == "combined" and model.is_electric:
        model.refuse_electric("score by combined", "by electric is what it stands for")
    if kind != name_own_kind(model):
        model.require_generator(f"score by {kind}")


def masked_share(model: HubModel) -> float:
    """Share of the tokens that were picked in pre-training."""
    return getattr(model.task.cfg, "mask_prob", None) or ElectraTaskConfig.mask_prob


def log_p_data(logits: Tensor, log_q: Tensor, masked: float) -> Tensor:
    """Log-probability of tokens in real text, by what a trained pair says of them.

    With D = sigmoid(-logit) a perfect discriminator's probability that a token is the original, and
    p the share that is picked, D = p_data (1 - p + p q) / (p_data (1 - p) + p q), so that
    p_data = D q / (a (1 - D) + q) with a = (1 - p) / p.

    Args:
        logits: (...) of the discriminator, positive where it looks replaced.
        log_q: (...) the generator's log-probabilities.
        masked: p.
    """
    log_a = math.log((1 - masked) / masked)
    return F.logsigmoid(-logits) + log_q - torch.logaddexp(log_a + F.logsigmoid(logits), log_q)


def each_log_q(model: HubModel, texts: Iterable[Text], batch_size: int) -> Iterator[Tensor]:
    """The generator's log-probability of each piece where it alone is masked, (P,) float64.

    Of two towers, which do not see it anyway, in one pass.
    """
    if model.is_electric:
        return (row.to(DTYPE) for row in model.each_piece(texts, model.log_q, batch_size))
    mask = model.dictionary.index(MASK)

    def run(batch: List[Text]) -> List[Tensor]:
        slots = (
            make_slot(model, text.numbers, place, place + 1, [mask])
            for text in batch
            for place in range(len(text.numbers))
        )
        found = each_slot(model, slots, run_slots, batch_size)
        return [torch.tensor(list(islice(found, len(text.numbers))), dtype=DTYPE) for text in batch]

    def run_slots(tokens: Tensor, picked: Tensor, slots: List[Slot]) -> List[float]:
        logits = model.word_logits(tokens, picked)[:, 0]
        originals = torch.tensor([slot.originals for slot in slots], device=logits.device)
        return (logits.gather(1, originals)[:, 0] - logits.logsumexp(1)).tolist()

    return run_sorted(texts, lambda text: len(text.numbers), run, batch_size)


def zero_shot(
    electra: Electra,
    texts: Iterable[str],
    labels: Sequence[str],
    template: str,
    batch_size: int = BATCH,
) -> Iterator[List[Dict]]:
    """Labels of each text, judged by the discriminator in the template's place.

    A label's number is the mean probability of being original over its pieces, after Xia et al.
    2022 (Prompting ELECTRA); its score is that number's share of all labels'. The rest of the
    template is not judged, nor is allowed for which label is more usual anywhere. Of a text too
    long for the model each window is read with the template, and the numbers are the means over
    windows.
    """
    electra.require_discriminator("zero_shot")
    check_labels(labels)
    parts = parse_template(template)
    room = count_room(electra, labels, parts)

    def run(batch: List[Text]) -> List[List[Dict]]:
        filled = [
            [fill_template(parts, part, label) for part in cut_text(text, room) for label in labels]
            for text in batch
        ]
        read = [electra.read(each) for texts in filled for each, _ in texts]
        rows = electra.each_piece(read, electra.replaced_logits, batch_size)
        pairs = iter(zip(read, rows, strict=True))
        return [
            rank_labels(labels, [judge(*next(pairs), span) for _, span in texts])
            for texts in filled
        ]

    read_texts = map(electra.read, texts)
    return run_sorted(read_texts, lambda text: len(text.numbers), run, batch_size)


def check_labels(labels: Sequence[str]) -> None:
    """ValueError if they are not several different words or phrases."""
    if isinstance(labels, str) or not labels:
        raise ValueError('labels must be a list of words or phrases, such as ["good", "bad"]')
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"a label must be a word or phrase, not {label!r}")


def parse_template(template: str) -> List[str]:
    """Its parts: what stands before, between and after both places, and "text" and "label".

    Raises:
        ValueError: if it has other places, or not each once.
    """
    try:
        found = [(before, field) for before, field, *_ in Formatter().parse(template)]
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}; write a brace as {{{{ or }}}}") from None
    fields = [field for _, field in found if field is not None]
    if sorted(fields) != sorted(FIELDS):
        raise ValueError(
            f"template {template!r} must have {{text}} and {{label}}, each once, and no other "
            'place, such as "{text} It was {label}."'
        )
    parts = [""]
    for before, field in found:
        parts[-1] += before
        if field is not None:
            parts += [field, ""]
    return parts


def fill_template(parts: List[str], text: str, label: str) -> Tuple[str, Span]:
    """The filled template, and the label's characters in it."""
    before, first, between, second, after = parts
    values = {"text": text, "label": label}
    start = len(before)
    if second == "label":
        start += len(values[first]) + len(between)
    filled = before + values[first] + between + values[second] + after
    return filled, (start, start + len(label))


def count_room(electra: Electra, labels: Sequence[str], parts: List[str]) -> int:
    """Most pieces of a text that the model reads at once with the template and any label.

    Raises:
        ValueError: if that is none.
    """
    filled = [fill_template(parts, "", label)[0] for label in labels]
    longest = max(filled, key=lambda text: len(electra.read(text).numbers))
    room = electra.max_tokens - 2 - len(electra.read(longest).numbers)
    if room < 1:
        raise ValueError(
            f"{longest!r} leaves no room for a text: the model reads at most {electra.max_tokens} "
            "tokens at once; shorten the template or the label"
        )
    return room


def cut_text(text: Text, room: int) -> List[str]:
    """The text, or windows of at most `room` pieces, half of each in the next as well."""
    if len(text.numbers) <= room:
        return [text.text]
    return [
        text.text[text.spans[first][0] : text.spans[first + length - 1][1]]
        for first, length in cut_windows(len(text.numbers), room, max(1, room // 2))
    ]


def judge(text: Text, logits: Tensor, label: Span) -> float:
    """Mean probability of being original over the pieces of the label's characters."""
    start, end = label
    inside = [place for place, span in enumerate(text.spans) if span[0] < end and span[1] > start]
    if not inside:
        raise ValueError(f"label {text.text[start:end]!r} has no characters that the model reads")
    return (-logits[inside]).sigmoid().mean().item()


def rank_labels(labels: Sequence[str], numbers: List[float]) -> List[Dict]:
    """Labels by their numbers, which come window by window; best first, scores sum to 1."""
    sums = [sum(numbers[place :: len(labels)]) for place in range(len(labels))]
    ranked = sorted(zip(labels, sums, strict=True), key=lambda pair: -pair[1])
    return [{"label": label, "score": number / sum(sums)} for label, number in ranked]
