"""Generated text keeps its prompt; at temperature 0 each round can be followed by hand."""

import pytest
import torch

from fairseq_electra.hub.masks import MASK


def test_temperature_0_follows_both_networks(electra):
    """4 new pieces in 2 rounds: the generator's best, the 2 worst by the discriminator again."""
    model, dictionary = electra.model, electra.dictionary
    cannot = [not each.strip() for each in electra.pieces.spellings]
    mask = dictionary.index(MASK)
    tokens = torch.tensor(
        [[*electra.encode("the cat").tolist()[:-1], *[mask] * 4, dictionary.eos()]]
    )

    def fill(tokens):
        every = torch.arange(tokens.size(1))[None]
        logits = model.generator(tokens, None, tokens.eq(-1), every, model.embeddings)
        logits = logits.masked_fill(torch.tensor(cannot), float("-inf"))
        return torch.where(tokens.eq(mask), logits.argmax(-1), tokens)

    first = fill(tokens)
    logits = model(first, features_only=False)[0][0, 3:7]
    worst = sorted(logits.topk(2).indices.tolist())
    again = first.clone()
    again[0, [3 + place for place in worst]] = mask
    wanted = fill(again)

    found = electra.generate("The cat", 4, 2, temperature=0, show_rejected=True)
    spelled = "".join(electra.pieces.spellings[number] for number in wanted[0, 3:7])
    assert found["text"] == f"The cat{spelled}"
    assert len(found["rejected"]) == 2 and found["rejected"][1] == []
    for each, place in zip(found["rejected"][0], worst, strict=True):
        assert each["word"] == electra.pieces.spellings[first[0, 3 + place]].strip()
        assert each["score"] == pytest.approx(logits[place].sigmoid().item(), abs=1e-5)
    assert electra.generate("The cat", 4, 2, temperature=0) == found["text"]


def test_a_seed_gives_the_text_again_and_touches_nothing_else(electra):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    texts = [electra.generate("The cat", 10, 5, seed=seed) for seed in (1, 2, 1)]
    electra.generate("The cat", 10, 2)
    assert texts[0] == texts[2] != texts[1]
    assert torch.equal(torch.get_rng_state(), before)
    assert len({electra.generate("The cat", 10, 2) for _ in range(3)}) > 1


@pytest.mark.parametrize("name", ["electra", "sentencepiece_electra"])
@pytest.mark.parametrize("temperature", [0, 1, 50])
def test_the_prompt_stays_as_typed(name, temperature, request):
    electra = request.getfixturevalue(name)
    for prompt in ("The  Old CAT,", "", "Café 😀"):
        text = electra.generate(prompt, 6, 3, temperature, seed=3)
        assert text.startswith(prompt) and len(text) > len(prompt)
        assert text == text.strip()
    text = electra.generate("The <mask> CAT <mask><mask> (it)", 6, 3, temperature, seed=3)
    assert text.startswith("The") and " CAT" in text and text.endswith(" (it)")
    assert not any(special in text for special in (MASK, "<s>", "</s>", "<unk>", "<pad>"))


def test_each_round_rejects_fewer(electra):
    found = electra.generate("the", 10, 5, seed=1, show_rejected=True)
    assert [len(words) for words in found["rejected"]] == [8, 6, 4, 2, 0]
    found = electra.generate("a <mask> and <mask> <mask>", steps=2, seed=1, show_rejected=True)
    assert [len(words) for words in found["rejected"]] == [1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be at least 1, not 0"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"temperature": -1.0}, "temperature must be a number from 0 on, not -1.0"),
        ({"temperature": float("nan")}, "temperature must be a number from 0 on, not nan"),
        ({"length": 30}, "34 tokens with <s> and </s>, but the model reads at most 32 at once"),
    ],
)
def test_what_cannot_be_generated_is_named(electra, options, message):
    with pytest.raises(ValueError, match=message):
        electra.generate("the cat", **options)


def test_networks_that_are_missing_are_named(electra, monkeypatch):
    monkeypatch.setitem(electra.model._modules, "discriminator_head", None)
    with pytest.raises(ValueError, match="generate needs the discriminator's head"):
        electra.generate("it")
    monkeypatch.setitem(electra.model._modules, "generator", None)
    with pytest.raises(ValueError, match="generate needs the generator"):
        electra.generate("it")
