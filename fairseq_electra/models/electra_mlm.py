"""`--arch electra_mlm_small` and the other sizes: ELECTRA's encoder, trained as RoBERTa is.

For fairseq's stock `masked_lm` task and criterion. Only the objective is not ELECTRA's: layers,
kernels, precision, optimizer and initial weights are the same. A checkpoint is fine-tuned with
`--arch electra_small`.
"""

import logging
from typing import Optional

from fairseq.models import register_model
from torch import Tensor

from fairseq_electra.models.electra import ElectraModel, register_size
from fairseq_electra.models.electra_config import ElectraConfig, check_config, fill_defaults
from fairseq_electra.process.state import warn_once
from fairseq_electra.recipes import SIZES

logger = logging.getLogger(__name__)


@register_model("electra_mlm", dataclass=ElectraConfig)
class ElectraMaskedLM(ElectraModel):
    """The discriminator's encoder with a head like the generator's; there is no generator.

    Args:
        cfg, dictionary: as for ElectraModel; options of the generator mean nothing.
    """

    def __init__(self, cfg: ElectraConfig, dictionary):
        super().__init__(cfg, dictionary, pretrain=False, mlm=True)

    @classmethod
    def build_model(cls, cfg: ElectraConfig, task) -> "ElectraMaskedLM":
        check_config(fill_defaults(cfg))
        if str(cfg.compile) != "none":
            warn_once(logger, "--compile is for --task electra alone: electra_mlm is not compiled")
        return cls(cfg, task.source_dictionary)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Optional[Tensor] = None,
        masked_tokens: Optional[Tensor] = None,
        **kwargs,
    ):
        """Word logits (N, V) at `masked_tokens` (B, T), bool; (B, T, V) where it is None.

        And a dict with `inner_states`, as fairseq's RobertaModel.
        """
        with self.autocast(src_tokens.device):
            features, extra = self.encode(src_tokens)
            if masked_tokens is not None:
                features = features[masked_tokens]
            return self.mlm_head(features, self.embeddings.embed_tokens.weight), extra


for name, size in SIZES.items():
    register_size("electra_mlm", f"electra_mlm_{name}", size)
