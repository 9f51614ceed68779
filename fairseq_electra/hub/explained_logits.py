"""Which logit is explained, and what the model reads for it.

In: an Electra, a text's tokens and words, and what was asked. Out: a Logit.
"""

import textwrap
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor

from fairseq_electra.data.answer_windows import choose_windows
from fairseq_electra.hub.texts import Text, make_windows
from fairseq_electra.modules.heads import ClassificationHead, TaggingHead

if TYPE_CHECKING:
    from fairseq_electra.hub.electra import Electra
    from fairseq_electra.hub.explanations import Token, Word


class Reading(NamedTuple):
    """What the model reads: T tokens."""

    tokens: Tensor  # (T,)
    places: List[Optional[int]]  # of each among the text's pieces; None for <s> and </s>


class Logit(NamedTuple):
    """A number that the model makes of what it reads."""

    reading: Reading
    compute: Callable[[Tensor], Tensor]  # features (B, T, C) -> (B,)
    label: Optional[str]
    word: Optional[int]
    probability: Optional[float]


def choose_logit(
    electra: "Electra",
    parts: List[Text],
    tokens: List["Token"],
    words: List["Word"],
    head: Optional[str],
    label: Optional[str],
    word: Union[int, str, None],
) -> Logit:
    """As `explain`, which see for what can be asked, and errors."""
    if head is None:
        return choose_replaced(electra, parts, tokens, words, label, word)
    electra.require_head(head)
    module = electra.model.classification_heads[head]
    if isinstance(module, ClassificationHead):
        if word is not None:
            raise ValueError(f"head {head!r} judges the whole text: leave out word=")
        reading = read_whole(electra, parts)

        def apply(features: Tensor) -> Tensor:
            is_padding = torch.zeros(features.shape[:2], dtype=torch.bool, device=features.device)
            return module(features, padding_mask=is_padding)

    elif isinstance(module, TaggingHead):
        if word is None:
            raise ValueError(f"head {head!r} judges words: name one, as word=")
        word = find_word(words, word)
        place = words[word].first  # as in fine-tuning, where the tag is the first piece's
        reading = read_around(electra, take_one(parts), place)
        position = reading.places.index(place)

        def apply(features: Tensor) -> Tensor:
            return module(features[:, position])

    else:
        raise ValueError(f"head {head!r} cannot be explained: only those of sentences and tags")
    with torch.no_grad():
        logits = apply(encode(electra, reading.tokens[None]))[0]  # (N,)
    number, name = choose_label(electra, head, logits, label)
    probability = None if name is None else logits.softmax(0)[number].item()
    return Logit(reading, lambda features: apply(features)[:, number], name, word, probability)


def choose_replaced(
    electra: "Electra",
    parts: List[Text],
    tokens: List["Token"],
    words: List["Word"],
    label: Optional[str],
    word: Union[int, str, None],
) -> Logit:
    """The discriminator's logit of the most suspicious piece of a word, or of all."""
    what = "an explanation without a head"
    electra.require_discriminator(what)
    electra.refuse_electric(what, "its discriminator gives energies; name a head")
    if label is not None:
        raise ValueError("label= is for a head: name that as well, as head=")
    text = take_one(parts)
    if not words:
        raise ValueError("the text has no words")
    if word is None:
        number = max(range(len(words)), key=lambda each: words[each].replaced)
    else:
        number = find_word(words, word)
    pieces = range(words[number].first, words[number].last)
    place = max(pieces, key=lambda piece: tokens[piece].replaced)
    reading = read_around(electra, text, place)
    position, head = reading.places.index(place), electra.model.discriminator_head
    return Logit(
        *(reading, lambda features: head(features[:, position])),
        *(None, number, tokens[place].replaced),
    )


def take_one(parts: List[Text]) -> Text:
    """The only text; ValueError for a pair."""
    if len(parts) > 1:
        raise ValueError("only a head of sentences reads a pair: give one text")
    return parts[0]


def find_word(words: List["Word"], word: Union[int, str]) -> int:
    """Number of the word that is meant.

    Raises:
        ValueError: if there is none, or several.
    """
    if isinstance(word, int):
        if not 0 <= word < len(words):
            raise ValueError(f"there is no word {word}: the text has {len(words)}, counted from 0")
        return word
    found = [number for number, each in enumerate(words) if each.text == word]
    if not found:
        known = textwrap.shorten(" ".join(each.text for each in words), 200, placeholder=" ...")
        raise ValueError(f"{word!r} is none of the text's words: {known}")
    if len(found) > 1:
        numbers = ", ".join(map(str, found))
        raise ValueError(f"the text has {word!r} {len(found)} times: name a number, of {numbers}")
    return found[0]


def choose_label(
    electra: "Electra", head: str, logits: Tensor, label: Optional[str]
) -> Tuple[int, Optional[str]]:
    """Number and name of a label, by logits (N,) if none is named; no name if there is but one.

    Raises:
        ValueError: if there is none of this name.
    """
    if len(logits) == 1:
        if label is not None:
            raise ValueError(f"head {head!r} gives a number, not labels: leave out label=")
        return 0, None
    names = name_labels(electra, len(logits))
    if label is None:
        number = int(logits.argmax())
    elif label in names:
        number = names.index(label)
    else:
        raise ValueError(f"head {head!r} has no label {label!r}; it has {', '.join(names)}")
    return number, names[number]


def name_labels(electra: "Electra", number: int) -> List[str]:
    """Names of a head's labels by its task, or their numbers if that does not know them."""
    dictionary = getattr(electra.task, "label_dictionary", None)
    names = [] if dictionary is None else dictionary.symbols[dictionary.nspecial :]
    return [names[each] if each < len(names) else str(each) for each in range(number)]


def encode(electra: "Electra", tokens: Tensor, types: Optional[Tensor] = None) -> Tensor:
    """Features (B, T, C) of tokens (B, T), all of which are read, also padding."""
    model = electra.model
    types = electra.mark_types(tokens) if types is None else types
    return model.encoder(model.embeddings(tokens, types), None)


def read_whole(electra: "Electra", parts: List[Text]) -> Reading:
    """All of one or two texts; ValueError if they are too long."""
    numbers, places = [electra.dictionary.bos()], [None]
    pieces = 0
    for part in parts:
        numbers += [*part.numbers, electra.dictionary.eos()]
        places += [*range(pieces, pieces + len(part.numbers)), None]
        pieces += len(part.numbers)
    if len(numbers) > electra.max_tokens:
        raise ValueError(
            f"the text has {len(numbers)} tokens with <s> and </s>, the model reads at most "
            f"{electra.max_tokens} at once: explain a part of it"
        )
    return Reading(torch.tensor(numbers, device=electra.device), places)


def read_around(electra: "Electra", text: Text, piece: int) -> Reading:
    """The window of a text in which `each_piece` judges a piece."""
    bos, eos = electra.dictionary.bos(), electra.dictionary.eos()
    windows = make_windows(0, text.numbers, electra.max_tokens, bos, eos)
    sizes = [(window.first, len(window.tokens) - 2) for window in windows]
    window = windows[choose_windows(sizes, len(text.numbers))[piece]]
    inner = range(window.first, window.first + len(window.tokens) - 2)
    return Reading(torch.tensor(window.tokens, device=electra.device), [None, *inner, None])
