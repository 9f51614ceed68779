"""Sentence pairs: hand-computed examples, the authors' rules token by token, rates, data access."""

import math
import pickle
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, FairseqDataset, data_utils, indexed_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.data.sentence_pair_dataset import (
    SentencePairDataset,
    build_pair_index,
    uniform_draws,
)

DICTIONARY = Dictionary()
BOS, EOS = DICTIONARY.bos(), DICTIONARY.eos()
FIRST_TOKEN = 10

# What one draw decides, as numbers that lie clearly on one side.
PAIR, ONE_SEGMENT = 0.5, 0.05
TO_FIRST, TO_SECOND = 0.2, 0.7
FULL, SHORT = 0.5, 0.01


class Lines(FairseqDataset):
    """Lines of the given lengths (0 for a blank one), tokens numbered through; notes its reads."""

    supports_prefetch = True

    def __init__(self, lengths):
        ends = (FIRST_TOKEN + np.cumsum([0, *lengths])).tolist()
        self.lines = [[*range(a, b), EOS] for a, b in pairwise(ends)]
        self.sizes = np.array([len(line) for line in self.lines])
        self.read, self.prefetched = [], None

    def __len__(self):
        return len(self.lines)

    def __getitem__(self, index):
        self.read.append(index)
        return torch.tensor(self.lines[index])

    def prefetch(self, indices):
        self.prefetched = sorted(indices)


def make_pairs(lengths, max_tokens=12, seed=1):
    lines = Lines(lengths)
    return SentencePairDataset(lines, lines.sizes, DICTIONARY, max_tokens, seed)


def read_items(pairs):
    return [(item["tokens"].tolist(), item["token_types"].tolist()) for item in pairs]


def forced_items(monkeypatch, lengths, draws, max_tokens=12):
    """The items that these draws lead to; all the draws must be used, and no more."""
    left = iter(draws)
    source = "fairseq_electra.data.sentence_pair_dataset.uniform_draws"
    monkeypatch.setattr(source, lambda seed: left.__next__)
    items = read_items(make_pairs(lengths, max_tokens))
    assert list(left) == []
    return items


def pair(first, second):
    """The item of two segments, given as their tokens; an empty second one is left out."""
    tokens = [BOS, *first, EOS]
    types = [0] * len(tokens)
    if second:
        tokens, types = [*tokens, *second, EOS], types + [1] * (len(second) + 1)
    return tokens, types


# max_tokens 12: the target is 12 tokens of text, (12 - 3) // 2 = 4 of them for the first segment.
@pytest.mark.parametrize(
    ("draws", "first", "second"),
    [
        # The 3-token line would fill the first segment and opens the second; the 1-token line
        # still fits the first; the 6-token line is trimmed to the 12 - 3 - 3 - 3 left.
        ([PAIR, TO_SECOND, FULL], [10, 11, 15], [12, 13, 14, 16, 17, 18]),
        # The 3-token line overfills the first segment; all else goes to the second.
        ([PAIR, TO_FIRST, FULL], [10, 11, 12, 13, 14], [15, 16, 17, 18]),
        # One segment: 12 tokens trimmed to 12 - 2.
        ([ONE_SEGMENT, FULL], list(range(10, 20)), []),
    ],
)
def test_lines_go_to_segments(monkeypatch, draws, first, second):
    assert forced_items(monkeypatch, [2, 3, 1, 6], draws) == [pair(first, second)]


def test_line_longer_than_the_maximum_is_one_trimmed_segment(monkeypatch):
    assert forced_items(monkeypatch, [20], [PAIR, FULL]) == [pair(range(10, 20), [])]


def test_one_segment_is_as_long_as_any_maximum(monkeypatch):
    items = forced_items(monkeypatch, [1000, 500], [ONE_SEGMENT, FULL], max_tokens=1500)
    assert items == [pair(range(10, 1508), [])]


def test_first_segment_leaves_no_room_for_the_second(monkeypatch):
    # 3 tokens, then 6 more by the coin make 9 = 12 - 3: room for no token of the second segment.
    items = forced_items(monkeypatch, [3, 6, 5], [PAIR, TO_FIRST, FULL])
    assert items == [pair(range(10, 19), [])]


def test_first_segment_at_its_target_opens_the_second_without_a_draw(monkeypatch):
    # 4 tokens reach the target of 4.
    items = forced_items(monkeypatch, [4, 8], [PAIR, FULL])
    assert items == [pair(range(10, 14), range(14, 19))]


def test_blank_lines_end_documents_and_add_nothing(monkeypatch):
    items = forced_items(
        monkeypatch,
        [0, 0, 3, 1, 0, 0, 2, 0, 1],
        # 3 + 1 is not below 4: a coin. The other documents have one line each.
        [PAIR, TO_SECOND, FULL, PAIR, FULL, PAIR],
    )
    assert items == [pair([10, 11, 12], [13]), pair([14, 15], []), pair([16], [])]


def test_target_is_drawn_after_each_example(monkeypatch):
    items = forced_items(
        monkeypatch,
        [12, 2, 0, 3, 4, 5, 6, 1, 5],
        [
            *(PAIR, SHORT, 0.3),  # 5 + floor(0.3 * 8) = 7: first segment's target is now 2
            *(PAIR, SHORT, 0.3),  # the document ends at 2 tokens; 7 again
            *(PAIR, SHORT, 0.999),  # 3 + 4; the longest of random targets is 12 itself
            *(PAIR, SHORT, 0.0),  # 5 + 6 is not yet 12; the shortest is 5
            *(PAIR, FULL),
        ],
    )
    assert items == [
        pair(range(10, 20), []),
        pair([22, 23], []),
        pair([24, 25, 26], [27, 28, 29, 30]),
        pair(range(31, 36), range(36, 40)),
        pair(range(43, 48), []),
    ]


def reference_items(lines, max_tokens, draw):
    """The authors' rules in words close to theirs, moving tokens instead of counting them."""
    items, sentences, target = [], [], max_tokens
    for line in [*lines, []]:
        text = list(chain(*sentences))
        if not text and not line:
            continue
        sentences, text = [*sentences, line], text + line
        if line and len(text) < target:
            continue
        aim = 100_000 if draw() < 0.1 else (target - 3) // 2
        first, second = [], []
        for sentence in filter(None, sentences):
            fits = not first or len(first) + len(sentence) < aim
            may_overfill = not second and len(first) < aim
            if fits or (may_overfill and draw() < 0.5):
                first = first + sentence
            else:
                second = second + sentence
        first = first[: max_tokens - 2]
        items.append(pair(first, second[: max(0, max_tokens - len(first) - 3)]))
        sentences, target = [], max_tokens
        if draw() < 0.05:
            target = 5 + int(draw() * (max_tokens - 4))
    return items


DOCUMENTS = st.lists(st.lists(st.integers(1, 40), max_size=12), min_size=1, max_size=8)


def lengths_of(documents):
    return [length for document in documents for length in [*document, 0]]


@settings(deadline=None, max_examples=100)
@given(DOCUMENTS.filter(any), st.integers(5, 60), st.integers(0, 1000))
def test_agrees_with_the_rules_applied_to_tokens(documents, max_tokens, seed):
    pairs = make_pairs(lengths_of(documents), max_tokens, seed)
    lines = [line[:-1] for line in pairs.dataset.lines]
    assert read_items(pairs) == reference_items(lines, max_tokens, uniform_draws(seed))


@settings(deadline=None, max_examples=50)
@given(DOCUMENTS.filter(any), st.integers(5, 60), st.integers(0, 1000))
def test_items_are_well_formed(documents, max_tokens, seed):
    pairs = make_pairs(lengths_of(documents), max_tokens, seed)
    document_of = np.repeat(np.arange(len(documents)), [sum(lines) for lines in documents])
    last_token = FIRST_TOKEN - 1
    for index, (tokens, types) in enumerate(read_items(pairs)):
        assert len(tokens) == len(types) == pairs.size(index) <= max_tokens
        n_first = tokens.index(EOS) + 1
        assert tokens[0] == BOS
        assert tokens[-1] == EOS
        assert types == [0] * n_first + [1] * (len(tokens) - n_first)
        segments = [tokens[1 : n_first - 1], tokens[n_first:-1]]
        text = np.array(list(chain(*segments)))
        assert EOS not in text
        assert len(segments[0]) > 0
        assert len(set(document_of[text - FIRST_TOKEN])) == 1
        assert all(segment == sorted(set(segment)) for segment in segments)
        assert text.min() > last_token
        last_token = text.max()
    assert read_items(make_pairs(lengths_of(documents), max_tokens, seed)) == read_items(pairs)


def assert_binomial(count, n, p):
    assert abs(count - n * p) < 4 * math.sqrt(n * p * (1 - p))


def test_rates_of_random_decisions():
    # One endless document of 10-token lines. 61 to 64 tokens take 7 lines, so fewer lines show a
    # random target; a pair of 7 lines has 2 or, by the coin, 3 lines in its first segment.
    line_sizes = np.full(150_000, 11)
    index = build_pair_index(line_sizes, 64, uniform_draws(1))
    n_lines = np.diff(index.line_bounds)[1:-1]  # the first target is not drawn, the last not met
    first_lines = n_lines - np.add.reduceat(index.is_second, index.line_bounds[:-1])[1:-1]
    for lines, n_targets in enumerate([6, 10, 10, 10, 10, 10], start=1):  # of 60: 5 to 64
        assert_binomial((n_lines == lines).sum(), len(n_lines), 0.05 * n_targets / 60)
    full = first_lines[n_lines == 7]
    assert set(full) == {2, 3, 7}
    assert_binomial((full == 7).sum(), len(full), 0.1)
    assert_binomial((full == 3).sum(), (full < 7).sum(), 0.5)


def test_other_seed_gives_other_pairs_and_other_epoch_the_same():
    lengths = [7] * 500
    pairs = make_pairs(lengths, 64, seed=1)
    items = read_items(pairs)
    assert read_items(make_pairs(lengths, 64, seed=2)) != items
    pairs.set_epoch(2)
    assert read_items(pairs) == items
    assert pairs.can_reuse_epoch_itr_across_epochs


def test_reads_and_prefetches_only_the_lines_of_an_example():
    # Each 12-token line fills an example.
    pairs = make_pairs([12, 12, 0, 3, 1, 0, 12])
    assert pairs.dataset.read == []
    pairs[2]
    assert {3, 4} <= set(pairs.dataset.read) <= {2, 3, 4, 5}
    assert pairs.supports_prefetch
    pairs.prefetch([0, 1])
    assert pairs.dataset.prefetched == [0, 1]
    with pytest.raises(IndexError):
        pairs[len(pairs)]


def test_sizes_serve_fairseqs_batching():
    pairs = make_pairs([3, 0, 5, 0, 4, 0])  # 5, 7 and 6 tokens with <s> and </s>
    assert pairs.num_tokens(1) == 7
    batches = pairs.batch_by_size(pairs.ordered_indices(), max_tokens=14)
    assert [list(batch) for batch in batches] == [[0, 1], [2]]
    kept, ignored = pairs.filter_indices_by_size(pairs.ordered_indices(), 6)
    assert (kept.tolist(), ignored) == ([0, 2], [1])


@pytest.fixture
def split_data(tmp_path):
    """Two splits on disk, `train` and `train1`, as fairseq combines them; and their lines."""
    lines = Lines([4, 7, 2, 0, 9, 3, 0, 30, 1, 5, 0, 6]).lines
    for name, part in [("train", lines[:4]), ("train1", lines[4:])]:
        prefix = str(tmp_path / name)
        builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=100)
        for line in part:
            builder.add_item(torch.tensor(line))
        builder.finalize(f"{prefix}.idx")
    data = data_utils.load_indexed_dataset(str(tmp_path / "train"), combine=True)
    return data, lines


def test_works_on_combined_files_in_workers(split_data):
    data, lines = split_data
    pairs = SentencePairDataset(data, data.sizes, DICTIONARY, 16, seed=3)
    expected = reference_items([line[:-1] for line in lines], 16, uniform_draws(3))
    loader = torch.utils.data.DataLoader(pairs, batch_size=None, num_workers=2)
    assert read_items(pairs) == read_items(loader) == expected
    assert read_items(pickle.loads(pickle.dumps(pairs))) == expected
    assert pairs[0]["tokens"].dtype == pairs[0]["token_types"].dtype == torch.long


def test_too_short_a_maximum_is_refused():
    make_pairs([3], max_tokens=5)
    with pytest.raises(ValueError, match=r"--tokens-per-sample 4 .* at least 5"):
        make_pairs([3], max_tokens=4)


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_data_without_text_is_refused(lengths):
    with pytest.raises(ValueError, match="no line of text"):
        make_pairs(lengths)
