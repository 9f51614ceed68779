"""Sentences of tagged words -> batches of tokens, with the tag's number at a word's first piece.

A sentence longer than an example may be is cut at words into several examples, so that every word
keeps its tag; `join_words` puts what was predicted for them together again.
"""

from collections import Counter
from typing import Dict, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from fairseq_electra.data.collating import pad_rows
from fairseq_electra.data.conll import Sentence
from fairseq_electra.data.length_dataset import LengthDataset
from fairseq_electra.data.tokenizer import Tokenizer

IGNORED = -100  # target where no tag is asked for; torch's cross_entropy and transformers use it


class Example(NamedTuple):
    """A sentence, or a part of one, of T tokens with `<s>` and `</s>`."""

    sentence: int  # its number
    tokens: Tensor  # (T,)
    target: Tensor  # (T,) number of the tag at a word's first piece (0 if there are no tags)


class Counts(NamedTuple):
    """What became of the sentences."""

    cut_sentences: int  # into several examples
    cut_words: int  # with more pieces than fit
    unknown_words: int  # without a piece, such as a control character: <unk>


def encode_words(
    sentences: Sequence[Sentence], tokenizer: Tokenizer, dictionary
) -> Dict[str, List[int]]:
    """The tokens of every word, each word encoded on its own; [] for one that has no piece."""
    words = sorted({word for sentence in sentences for word in sentence.words})
    encoded = tokenizer.encode_lines(words)
    return {
        word: [dictionary.index(piece) for piece in pieces]
        for word, pieces in zip(words, encoded, strict=True)
    }


def cut_at_words(lengths: Sequence[int], limit: int) -> List[Tuple[int, int]]:
    """First and past-the-last word of parts of at most `limit` tokens, each as long as can be.

    Args:
        lengths: tokens of each word, none over the limit.
    """
    parts = []
    start = tokens = 0
    for word, length in enumerate(lengths):
        if tokens + length > limit:
            parts.append((start, word))
            start, tokens = word, 0
        tokens += length
    return [*parts, (start, len(lengths))]


class TaggingDataset(LengthDataset):
    """Examples of at most `max_tokens` tokens, `<s>` and `</s>` counted.

    Args:
        sentences: with tags, all of them in labels, or without.
        dictionary: fairseq's, of tokens.
        labels: the tags in the order of their numbers.

    Attributes:
        counts: what became of the sentences.
    """

    def __init__(
        self,
        sentences: Sequence[Sentence],
        tokenizer: Tokenizer,
        dictionary,
        labels: Sequence[str],
        max_tokens: int,
    ):
        self.dictionary = dictionary
        self.num_sentences = len(sentences)
        self.examples: List[Example] = []
        numbers = {label: number for number, label in enumerate(labels)}
        pieces = encode_words(sentences, tokenizer, dictionary)
        limit = max_tokens - 2
        for index, sentence in enumerate(sentences):
            words = [(pieces[word] or [dictionary.unk()])[:limit] for word in sentence.words]
            tags = [numbers[tag] for tag in sentence.tags] or [0] * len(words)
            for start, end in cut_at_words([len(word) for word in words], limit):
                self.examples.append(self.make_example(index, words[start:end], tags[start:end]))
        self.counts = Counts(
            cut_sentences=count_repeated(self.examples),
            cut_words=count_words(sentences, lambda word: len(pieces[word]) > limit),
            unknown_words=count_words(sentences, lambda word: not pieces[word]),
        )
        super().__init__([len(example.tokens) for example in self.examples])

    def make_example(self, sentence: int, words: List[List[int]], tags: List[int]) -> Example:
        """An example of words, each of at least one token, and their tags' numbers."""
        tokens, target = [self.dictionary.bos()], [IGNORED]
        for word, tag in zip(words, tags, strict=True):
            tokens += word
            target += [tag] + [IGNORED] * (len(word) - 1)
        tokens.append(self.dictionary.eos())
        target.append(IGNORED)
        return Example(sentence, torch.tensor(tokens), torch.tensor(target))

    def __getitem__(self, index: int) -> Dict:
        example = self.examples[index]
        return {"id": index, "tokens": example.tokens, "target": example.target}

    def collater(self, samples: List[Dict]) -> Dict:
        """Pad to the longest example: src_tokens and target (B, T)."""
        if not samples:
            return {}
        target = pad_rows([sample["target"] for sample in samples], IGNORED)
        return {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "net_input": {
                "src_tokens": pad_rows(
                    [sample["tokens"] for sample in samples], self.dictionary.pad()
                ),
            },
            "target": target,
            "nsentences": len(samples),
            "ntokens": sum(len(sample["tokens"]) for sample in samples),
            "nwords": int(target.ne(IGNORED).sum()),
        }

    def join_words(self, predicted: Dict[int, List]) -> List[List]:
        """What was predicted for the words of each example, by its index -> for each sentence."""
        joined: List[List] = [[] for _ in range(self.num_sentences)]
        for index, example in enumerate(self.examples):
            joined[example.sentence].extend(predicted[index])
        return joined


def count_repeated(examples: List[Example]) -> int:
    """Sentences of more than one example."""
    numbers = Counter(example.sentence for example in examples)
    return sum(number > 1 for number in numbers.values())


def count_words(sentences: Sequence[Sentence], is_counted) -> int:
    """Words for which is_counted(word) is true."""
    return sum(is_counted(word) for sentence in sentences for word in sentence.words)
