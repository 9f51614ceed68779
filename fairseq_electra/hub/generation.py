"""Text by filling masks again and again: the generator writes, the discriminator rejects.

Mask-predict (Ghazvininejad et al. 2019) with a critic that sees the whole text (Token-Critic,
Lezama et al. 2022), which ELECTRA has in its discriminator. In round r of R the generator fills all
masks at once; then of the N new pieces those that look most replaced, N (1 - r / R) of them rounded
down, are masked again. Noise that fades as that share does is added to the discriminator's logits.
"""

from typing import Any, Optional

import torch
from torch import Tensor

from fairseq_electra.hub.electra import Electra
from fairseq_electra.hub.masks import MASK, read_masked, write_words
from fairseq_electra.modules.corruption import sample_tokens

NOISE = 1.0  # of the logits: factor on Gumbel noise in the first round


@torch.inference_mode()
def generate(
    electra: Electra,
    prompt: str,
    length: int,
    steps: int,
    temperature: float,
    seed: Optional[int],
    show_rejected: bool,
) -> Any:
    """The prompt, as typed, with pieces for its masks, or with `length` pieces after it.

    Temperature divides the generator's logits and multiplies the noise, so that at 0 nothing is
    random. Random numbers come from a generator of their own.

    Returns:
        The text; or with `show_rejected` that and, for each round, a list of
        `{"word", "score"}`, the pieces masked again, in the text's order, and the probability that
        each was replaced.
    """
    electra.require_generator("generate")
    electra.require_discriminator("generate")
    electra.refuse_electric("generate", "its generator reads no <mask>, of which there are many")
    check_options(length, steps, temperature)
    has_gaps = MASK in prompt
    typed = prompt.rstrip()
    text = prompt if has_gaps else " ".join([*([typed] if typed else []), *[MASK] * length])
    numbers = read_masked(electra, text).numbers
    tokens = electra.pad([[electra.dictionary.bos(), *numbers, electra.dictionary.eos()]])
    if tokens.size(1) > electra.max_tokens:
        raise ValueError(
            f"prompt and new pieces are {tokens.size(1)} tokens with <s> and </s>, but the model "
            f"reads at most {electra.max_tokens} at once: give a shorter prompt or fewer new pieces"
        )
    random = torch.Generator()
    if seed is None:
        random.seed()
    else:
        random.manual_seed(seed)
    mask = electra.dictionary.index(MASK)
    (new,) = tokens[0].eq(mask).nonzero(as_tuple=True)  # positions of new pieces
    spellings = electra.pieces.spellings
    rejected = []
    masked = new
    for step in range(steps):
        tokens[0, masked] = draw_pieces(electra, tokens, masked, temperature, random)
        left = steps - 1 - step  # rounds to come
        logits = electra.replaced_logits(tokens)[0, new].cpu()
        noise = NOISE * temperature * left / steps * draw_gumbel(len(new), random)
        worst = (logits + noise).topk(len(new) * left // steps).indices.sort().values
        masked = new[worst.to(new.device)]
        rejected.append(
            [
                {"word": spellings[number].strip(), "score": score}
                for number, score in zip(
                    tokens[0, masked].tolist(), logits[worst].sigmoid().tolist(), strict=True
                )
            ]
        )
        tokens[0, masked] = mask
    filled = write_words(text, [spellings[number] for number in tokens[0, new].tolist()])
    return {"text": filled, "rejected": rejected} if show_rejected else filled


def check_options(length: int, steps: int, temperature: float) -> None:
    """ValueError for what has no meaning."""
    for name, value in (("length", length), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be a number from 0 on, not {temperature}")


def draw_pieces(
    electra: Electra, tokens: Tensor, masked: Tensor, temperature: float, random: torch.Generator
) -> Tensor:
    """Pieces (K,) from the generator for the masks at positions `masked` (K,) of tokens (1, T)."""
    logits = electra.word_logits(tokens, masked[None])[0].cpu()
    logits[:, ~electra.pieces.is_text] = float("-inf")
    if temperature == 0:
        return logits.argmax(1).to(tokens.device)
    uniform = 1.0 - torch.rand(len(logits), generator=random, dtype=torch.float64)
    return sample_tokens(logits, uniform, temperature).to(tokens.device)


def draw_gumbel(number: int, random: torch.Generator) -> Tensor:
    """(number,) of the standard Gumbel distribution."""
    uniform = torch.rand(number, generator=random, dtype=torch.float64)
    return -(-uniform.clamp(min=1e-300).log()).log()
