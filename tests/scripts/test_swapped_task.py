"""The task of swapped words: which neighbours change places, what marks them, what is the same."""

from hypothesis import given
from hypothesis import strategies as st

from fairseq_electra.criterions.entity_counts import are_entity_tags
from fairseq_electra.data.conll import format_conll
from scripts.corpus.swapped_task import choose_places, choose_sentences, find_places, swap_words

words_of_texts = st.lists(
    st.sampled_from(["the", "a", "of", "rate", "Rate", "end.", "42", "straße", "x-y", "--"]),
    min_size=1,
    max_size=60,
)


def undo(sentence):
    """The words before the swap, by the tags alone."""
    words = list(sentence.words)
    for i, tag in enumerate(sentence.tags):
        if tag == "B-SWAP":
            assert sentence.tags[i + 1] == "I-SWAP"
            words[i : i + 2] = words[i + 1], words[i]
    return words


@given(words_of_texts)
def test_what_is_marked_can_be_undone(words):
    swapped = swap_words(words)
    assert undo(swapped) == words
    assert len(swapped.tags) == len(words)
    assert swapped.tags.count("B-SWAP") == swapped.tags.count("I-SWAP")  # none without its pair


@given(words_of_texts)
def test_pairs_are_different_plain_words_that_do_not_overlap(words):
    places = choose_places(words)
    taken = [i for place in places for i in (place, place + 1)]
    assert len(set(taken)) == len(taken)
    assert {words[i] for i in taken} <= {"the", "a", "of", "rate", "straße"}
    swapped = swap_words(words)
    assert all(swapped.words[i] != words[i] for i in taken)
    assert [swapped.tags[i] for i in taken] == ["B-SWAP", "I-SWAP"] * len(places)
    assert bool(places) == bool(find_places(words))


def test_there_is_about_one_pair_in_20_words():
    lengths = (2, 15, 29, 31, 60, 100)
    places = {n: choose_places([f"w{'abcdefghij'[i % 10]}" for i in range(n)]) for n in lengths}
    assert [len(places[n]) for n in lengths] == [1, 1, 1, 2, 3, 5]


def test_pairs_are_at_any_place():
    texts = [["see", "the", "end", "of", "this", "a" * n] for n in range(1, 101)]
    assert {place for text in texts for place in choose_places(text)} == set(range(5))


def test_paragraphs_are_the_same_in_every_run():
    """Written down, so that another version of Python or of the code is noticed."""
    text = "the sum of all the items in the list is returned as a float or none"
    changed = swap_words(text.split())
    assert " ".join(changed.words) == text.replace("the sum of", "sum the of")
    paragraphs = [f"{text} and {name}" for name in ("one", "two", "three", "four")]
    kept = choose_sentences(paragraphs, 3)
    assert kept == choose_sentences([*reversed(paragraphs), *paragraphs], 3)
    assert len({tuple(sentence.words) for sentence in kept}) == 3


def test_paragraphs_without_a_pair_or_of_other_lengths_are_left_out():
    short, long = ["a rate"] * 7, ["a rate"] * 16
    texts = [" ".join(short), " ".join(long), "the " * 20, "A Rate 42 end. " * 5]
    assert choose_sentences(texts, 9) == []
    assert len(choose_sentences([*texts, " ".join([*short, "of"])], 9)) == 1


def test_tags_mark_entities():
    """The F1 of fine-tuning is over pairs."""
    (sentence,) = choose_sentences(["a rate of " * 5], 9)
    assert set(sentence.tags) == {"B-SWAP", "I-SWAP", "O"}
    assert are_entity_tags(sentence.tags)
    assert "B-SWAP\n" in format_conll([sentence])
