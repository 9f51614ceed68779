"""`--criterion electric`: energies by noise-contrastive estimation; the noise is the generator's.

After Clark et al. 2020, "Pre-Training Transformers as Energy-Based Cloze Models", as the authors'
run_pretraining.py has it. A picked token is noise, also where the sample is the original. With the
energy E of each token of the corrupted text, its log-probability log q by the generator, which
reads the clean text, and p = --mask-prob, the discriminator's loss is the binary cross-entropy of
the log-odds E + log q + log(p / (1 - p)) that it is noise. That is least where exp(-E) is the
probability of the token given the others.
"""

import math
from typing import Dict, Tuple

import torch
from fairseq.criterions import register_criterion
from torch import Tensor

from fairseq_electra.criterions.electra import (
    ElectraCriterion,
    ElectraCriterionConfig,
    mark_picked,
)
from fairseq_electra.data.pick_dataset import mark_candidates
from fairseq_electra.models.electra import ElectraOutput
from fairseq_electra.modules.two_towers import noise_logits


@register_criterion("electric", dataclass=ElectraCriterionConfig)
class ElectricCriterion(ElectraCriterion):
    """gen_weight x mean over words + disc_weight x mean over tokens but padding.

    Words are all tokens that could be picked. The discriminator's metrics are of the log-odds above
    and of finding picked tokens.

    Raises:
        ValueError: for --disc-loss-on picked: all of those are noise; and for --disc-weight 0.
    """

    def __init__(self, cfg: ElectraCriterionConfig, task):
        super().__init__(cfg, task)
        if not self.judges_all:
            raise ValueError(
                "--disc-loss-on picked cannot be used with --criterion electric, which tells "
                "picked tokens from the others"
            )
        if self.disc_weight == 0:
            raise ValueError(
                "--disc-weight 0 cannot be used with --criterion electric: no energies would be "
                "learned. A generator that fills masks can be trained alone, with --criterion "
                "electra and without --two-tower-generator"
            )
        self.mask_prob = float(task.cfg.mask_prob)
        is_word = torch.from_numpy(mark_candidates(task.source_dictionary))
        self.register_buffer("is_word", is_word, persistent=False)  # (V,)

    def ask(self, model, sample: Dict) -> Tuple[ElectraOutput, Tensor, int]:
        """A batch's output, with labels and logits of noise, and weights (B, T) of all words."""
        net_input = sample["net_input"]
        tokens = net_input["src_tokens"]
        output = model(**net_input)
        is_noise = mark_picked(net_input["picked"], net_input["picked_weights"], tokens)
        output = output._replace(
            sampled_tokens=output.corrupted_tokens.masked_fill(~is_noise, -1),  # (B, T): no sample
            is_replaced=is_noise,
            disc_logits=noise_logits(output.disc_logits, output.log_q, self.mask_prob),
        )
        return output, self.is_word.to(tokens.device)[tokens].float(), sample["ncandidates"]

    def uninformed_disc_loss(self, num_tokens: int) -> float:
        """Of energies of 0 and a generator to which all words are alike."""
        p = self.mask_prob
        logit = math.log(p / (1 - p)) - math.log(num_tokens)
        return p * math.log1p(math.exp(-logit)) + (1 - p) * math.log1p(math.exp(logit))
