"""`--arch electra_small` and the other sizes: generator -> corrupted tokens -> discriminator.

In: blocks of tokens with their picked positions. Out: an ElectraOutput of facts, from which the
criterion makes losses and metrics. On tasks that do not pre-train (fairseq's sentence_prediction),
the model is the discriminator's encoder with classification heads, and no generator is built.
"""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional, Tuple

import torch
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from torch import Tensor, nn

from fairseq_electra.checkpoints.fitting import adapt_state_dict, fingerprint
from fairseq_electra.data.labels import check_labels
from fairseq_electra.models.electra_config import (
    ElectraConfig,
    check_config,
    choose_sharing,
    discriminator_encoder_size,
    fill_defaults,
    read_run_option,
)
from fairseq_electra.models.generators import build_encoder, build_generator
from fairseq_electra.modules.compiling import compile_step, keep_gradients
from fairseq_electra.modules.corruption import (
    corrupt_tokens,
    label_replaced,
    lower_temperature,
    mask_tokens,
    sample_tokens,
)
from fairseq_electra.modules.encoder import (
    Embeddings,
    EncoderLayer,
    gather_positions,
    scale_to_fan_in,
)
from fairseq_electra.modules.heads import ClassificationHead, DiscriminatorHead, GeneratorHead
from fairseq_electra.modules.local_start import start_local
from fairseq_electra.modules.shared_embeddings import DisentangledEmbeddings
from fairseq_electra.modules.token_types import mark_second_sentence
from fairseq_electra.modules.two_towers import (
    gather_log_q,
)
from fairseq_electra.optim.layerwise import mark_depths
from fairseq_electra.process.state import warn_once
from fairseq_electra.recipes import SIZES, Size

logger = logging.getLogger(__name__)


def mixed_obstacle(device: torch.device, mixed: bool, dtype: torch.dtype) -> Optional[str]:
    """Why this precision is slow on this device; None if it is not."""
    is_amp = torch.is_autocast_enabled("cuda")  # fairseq's
    if device.type == "cuda" and not mixed and not is_amp and dtype == torch.float32:
        return "float32 leaves a GPU's tensor cores idle: --precision bf16 uses them"
    if device.type == "cpu" and mixed and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "this CPU has no instructions for bf16: --precision bf16 may be slower than float32"
    return None


class ElectraOutput(NamedTuple):
    """What one pass of both networks yields, for B sentences of T tokens with K picked slots.

    A two-tower generator predicts all T tokens: its logits and targets have T in place of K.
    """

    gen_logits: Tensor  # (B, K, V) of the generator at the picked positions
    gen_targets: Tensor  # (B, K) the original tokens there
    masked_tokens: Tensor  # (B, T) input of the generator
    disc_features: Optional[Tensor] = None  # (B, T, C) of the discriminator's last layer
    # of replaced-token detection; None during --mlm-updates
    sampled_tokens: Optional[Tensor] = None  # (B, K) the generator's samples there
    corrupted_tokens: Optional[Tensor] = None  # (B, T) input of the discriminator
    is_replaced: Optional[Tensor] = None  # (B, T) bool, labels of the discriminator
    disc_logits: Optional[Tensor] = None  # (B, T) positive where a token looks replaced
    # of a two-tower generator alone; disc_logits are energies then
    log_q: Optional[Tensor] = None  # (B, T) log-probabilities of corrupted_tokens, no gradient
    # of the discriminator's encoder, given masks, or with --clm-weight what replaced them
    mlm_logits: Optional[Tensor] = None  # (B, K, V)


def reach(x: Tensor, unused: nn.Module) -> Tensor:
    """x itself; the parameters of a head that this stage does not use get gradients of zero.

    DistributedDataParallel waits for a gradient of every parameter.
    """
    return x + 0.0 * sum(param.sum() for param in unused.parameters())


@register_model("electra", dataclass=ElectraConfig)
class ElectraModel(BaseFairseqModel):
    """Generator and discriminator over shared embeddings, trained jointly.

    `embeddings` are the discriminator's. The generator borrows them (`--embedding-sharing all`), or
    has its own, which the discriminator's may be made of (`gdes`).

    Args:
        cfg: sizes and options.
        dictionary: fairseq's, with `<mask>` in it if `pretrain`.
        pretrain: build the generator and the discriminator's head.
        mlm: build a head on the discriminator's encoder that predicts words; with `pretrain`
            --mlm-updates and --clm-weight say so.
    """

    def __init__(self, cfg: ElectraConfig, dictionary, pretrain: bool, mlm: bool = False):
        super().__init__()
        self.cfg = cfg = fill_defaults(cfg)
        self.steps: Dict[str, Callable] = {}  # by name, compiled when their device is known
        self.num_updates = 0
        self.max_update = read_run_option(cfg, "optimization", "max_update") or 0
        self.keeps_generator = 0  # when so many checkpoints are loaded (generator_from.py)
        # numbers, as a compiled step cannot read them in omegaconf's DictConfig
        self.disallow_correct, self.temperature = bool(cfg.disallow_correct), float(cfg.temperature)
        self.corrects = cfg.clm_weight > 0
        self.pad_idx, self.eos_idx = dictionary.pad(), dictionary.eos()
        self.mask_idx = dictionary.index("<mask>")
        if pretrain and self.mask_idx == dictionary.unk():
            raise ValueError("the dictionary has no <mask>: pre-train with --task electra")
        num_tokens = len(dictionary)
        size = discriminator_encoder_size(cfg)
        self.register_buffer("dictionary_fingerprint", fingerprint(dictionary))
        self.embeddings = Embeddings(num_tokens, cfg.embedding_size, cfg.max_positions)
        self.encoder = build_encoder(cfg, size, cfg.embedding_size)
        self.generator = build_generator(cfg, num_tokens) if pretrain else None
        self.discriminator_head = DiscriminatorHead(size.hidden) if pretrain else None
        self.mlm_head = None
        if mlm or (pretrain and (cfg.mlm_updates > 0 or self.corrects)):
            self.mlm_head = GeneratorHead(size.hidden, cfg.embedding_size, num_tokens)
        self.classification_heads = nn.ModuleDict()
        self.start()
        if pretrain and choose_sharing(cfg) == "gdes":
            self.generator.embeddings = self.embeddings
            self.embeddings = DisentangledEmbeddings(self.generator.embeddings)
        mark_depths([self.embeddings, self.encoder.embeddings_project], self.encoder.layers)

    def start(self) -> None:
        """Change the initial weights as `--weight-init` and `--mlm-updates` say."""
        if self.discriminator_head is not None and self.cfg.mlm_updates > 0:
            self.discriminator_head.start_even()
        start = str(self.cfg.weight_init)
        if start in ("fan-in", "local"):
            self.scale_matrices()
        if start == "local":
            networks = [(self.encoder, self.embeddings)]
            if self.generator is not None:
                own = self.generator.embeddings
                tables = self.embeddings if own is None else own
                networks += [(encoder, tables) for encoder in self.generator.encoders]
            start_local(networks)

    def scale_matrices(self) -> None:
        """Give all matrices that are not Glorot's the std of `--weight-init fan-in`."""
        for module in self.modules():
            if isinstance(module, EncoderLayer):
                module.apply(scale_to_fan_in)
            elif isinstance(module, (GeneratorHead, DiscriminatorHead)):
                scale_to_fan_in(module.dense)

    @classmethod
    def build_model(cls, cfg: ElectraConfig, task) -> "ElectraModel":
        """Build for fairseq; only a task that says so (`trains_generator`) gets the generator."""
        check_labels(task)
        check_config(fill_defaults(cfg))
        if cfg.untie_embeddings:
            warn_once(logger, "--untie-embeddings is called --embedding-sharing none now")
        pretrain = getattr(task, "trains_generator", False)
        if not pretrain and str(getattr(cfg, "compile", "none")) != "none":
            warn_once(logger, "--compile is for pre-training alone: this model is not compiled")
        return cls(cfg, task.source_dictionary, pretrain)

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str,
        checkpoint_file: str = "model.pt",
        data_name_or_path: str = ".",
        **options,
    ):
        """fairseq's way to load a model for use; `fairseq_electra.hub.load` gives the same.

        Args:
            model_name_or_path: a folder, or an archive.
            checkpoint_file: in it.
            data_name_or_path: folder with dict.txt and the tokenizer, in it or anywhere.
            options: what is to be changed of the checkpoint's options.

        Raises:
            ValueError: if it is damaged or could run code, or the folder has no tokenizer.
        """
        from fairseq import hub_utils

        from fairseq_electra.hub.loading import make_electra

        loaded = hub_utils.from_pretrained(
            model_name_or_path, checkpoint_file, data_name_or_path, **options
        )
        folder = Path(loaded["task"].cfg.data)
        checkpoint = Path(model_name_or_path) / checkpoint_file
        return make_electra(loaded["models"][0], loaded["task"], folder, checkpoint)

    def forward(self, src_tokens: Tensor, picked: Optional[Tensor] = None, **net_input):
        """Pre-train where the batch has picked positions, otherwise encode.

        See `pretrain` and `encode` for the further arguments, which are a batch's `net_input`; the
        first of --mlm-updates are `pretrain_mlm`, those of a two-tower generator
        `pretrain_electric`. Without `uniform` nothing can be sampled, and the generator alone fills
        masks (`pretrain_generator`).
        """
        device = src_tokens.device
        with self.autocast(device):
            if picked is None:
                return self.encode(src_tokens, **net_input)
            name = self.choose_step("uniform" in net_input)
            if name == "pretrain" and self.cfg.temperature_decay is not None:
                # filled there: a number would be compiled anew, a copy would wait for the device
                net_input["temperature"] = torch.full((), self.temperature_now(), device=device)
            return self.find_step(name, device)(src_tokens, picked, **net_input)

    def temperature_now(self) -> float:
        """Temperature of the samples: that of `--temperature`, or where it has fallen to.

        Raises:
            ValueError: if it falls and there is no --max-update.
        """
        decay = self.cfg.temperature_decay
        if decay is None:
            return self.temperature
        if self.max_update <= 0:
            raise ValueError(
                f"--temperature-decay {decay:g} is a share of the training: give --max-update"
            )
        return lower_temperature(self.temperature, self.num_updates / self.max_update, decay)

    def choose_step(self, can_sample: bool) -> str:
        """Name of the method that pre-trains in this update."""
        if self.cfg.two_tower_generator:
            return "pretrain_electric"
        if self.num_updates < self.cfg.mlm_updates:
            return "pretrain_mlm"
        return "pretrain" if can_sample else "pretrain_generator"

    def find_step(self, name: str, device: torch.device) -> Callable:
        """The method of this name, compiled as `--compile` says."""
        mode = str(self.cfg.compile)
        if not self.steps:
            keep_gradients(self.parameters(), mode, device)
        if name not in self.steps:
            self.steps[name] = compile_step(getattr(self, name), mode, device)
        return self.steps[name]

    def set_num_updates(self, num_updates: int) -> None:
        """fairseq says how many updates were made, before each and when it loads a checkpoint."""
        super().set_num_updates(num_updates)
        self.num_updates = num_updates

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which `--precision` computes.

        Raises:
            ValueError: if the weights are not in float32, as --fp16 and --bf16 make them.
        """
        mixed = str(self.cfg.precision) == "bf16"
        dtype = self.embeddings.layer_norm.weight.dtype
        if mixed and dtype != torch.float32:
            raise ValueError(
                f"--precision bf16 keeps float32 weights, but these are {dtype}: "
                "leave out either --precision bf16 or fairseq's --fp16 or --bf16"
            )
        obstacle = mixed_obstacle(device, mixed, dtype)
        if obstacle is not None and self.training:
            warn_once(logger, obstacle)
        return torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext()

    def pretrain(
        self,
        src_tokens: Tensor,
        picked: Tensor,
        picked_weights: Tensor,
        becomes_mask: Tensor,
        uniform: Tensor,
        has_padding: bool,
        places: Optional[Tensor] = None,
        token_types: Optional[Tensor] = None,
        sampled_tokens: Optional[Tensor] = None,
        temperature: Optional[Tensor] = None,
    ) -> ElectraOutput:
        """Mask, generate, sample, corrupt, discriminate.

        Args:
            src_tokens: (B, T) the originals, padded on the right.
            picked: (B, K) positions; unused slots are position 0 with weight 0.
            picked_weights: (B, K) 1 for used slots.
            becomes_mask: (B, K) bool, true where the generator sees `<mask>`.
            uniform: (B, K) float64 in (0, 1], which decide the samples.
            has_padding: known when the batch is made, so that nothing waits for the device.
            places: (N,) of the tokens in B x T, for the same reason; None: they are looked for.
            token_types: (B, T) 0 or 1.
            sampled_tokens: (B, K) to use instead of drawing them.
            temperature: () of the samples (default: --temperature).
        """
        padding_mask = src_tokens.eq(self.pad_idx) if has_padding else None
        gen_targets = src_tokens.gather(1, picked)
        masked, gen_logits = self.generate(
            src_tokens, picked, becomes_mask, padding_mask, places, token_types
        )
        if sampled_tokens is None:
            sampled_tokens = self.sample(gen_logits, gen_targets, uniform, temperature)
        corrupted = corrupt_tokens(src_tokens, picked, picked_weights, sampled_tokens)
        features = self.read(corrupted, padding_mask, places, token_types)
        mlm_logits = None
        if self.corrects:
            mlm_logits = self.predict_words(features, picked)
        elif self.mlm_head is not None:
            features = reach(features, self.mlm_head)
        return ElectraOutput(
            gen_logits=gen_logits,
            gen_targets=gen_targets,
            masked_tokens=masked,
            disc_features=features,
            sampled_tokens=sampled_tokens,
            corrupted_tokens=corrupted,
            is_replaced=label_replaced(src_tokens, corrupted),
            disc_logits=self.discriminator_head(features),
            mlm_logits=mlm_logits,
        )

    def pretrain_mlm(
        self,
        src_tokens: Tensor,
        picked: Tensor,
        becomes_mask: Tensor,
        has_padding: bool,
        places: Optional[Tensor] = None,
        token_types: Optional[Tensor] = None,
        **of_samples,
    ) -> ElectraOutput:
        """Both encoders fill the same masks: nothing is replaced, nothing is judged yet.

        The arguments are those of `pretrain`; what decides samples is not used.
        """
        padding_mask = src_tokens.eq(self.pad_idx) if has_padding else None
        masked, gen_logits = self.generate(
            src_tokens, picked, becomes_mask, padding_mask, places, token_types
        )
        features = self.read(masked, padding_mask, places, token_types)
        features = reach(features, self.discriminator_head)
        return ElectraOutput(
            gen_logits=gen_logits,
            gen_targets=src_tokens.gather(1, picked),
            masked_tokens=masked,
            disc_features=features,
            mlm_logits=self.predict_words(features, picked),
        )

    def pretrain_electric(
        self,
        src_tokens: Tensor,
        picked: Tensor,
        picked_weights: Tensor,
        uniform: Tensor,
        has_padding: bool,
        places: Optional[Tensor] = None,
        token_types: Optional[Tensor] = None,
        sampled_tokens: Optional[Tensor] = None,
        **of_masks,
    ) -> ElectraOutput:
        """Predict each token from the others, sample, corrupt, give energies: nothing is masked.

        The arguments are those of `pretrain`; what decides masks is not used.
        """
        padding_mask = src_tokens.eq(self.pad_idx) if has_padding else None
        gen_logits = self.generator(
            src_tokens, token_types, padding_mask, None, self.embeddings, places
        )  # (B, T, V)
        if sampled_tokens is None:
            sampled_tokens = sample_tokens(gather_positions(gen_logits.detach(), picked), uniform)
        corrupted = corrupt_tokens(src_tokens, picked, picked_weights, sampled_tokens)
        features = self.read(corrupted, padding_mask, places, token_types)
        return ElectraOutput(
            gen_logits=gen_logits,
            gen_targets=src_tokens,
            masked_tokens=src_tokens,
            disc_features=features,
            sampled_tokens=sampled_tokens,
            corrupted_tokens=corrupted,
            is_replaced=label_replaced(src_tokens, corrupted),
            disc_logits=self.discriminator_head(features),
            log_q=gather_log_q(gen_logits, corrupted),
        )

    def pretrain_generator(
        self,
        src_tokens: Tensor,
        picked: Tensor,
        becomes_mask: Tensor,
        has_padding: bool,
        places: Optional[Tensor] = None,
        token_types: Optional[Tensor] = None,
        **of_samples,
    ) -> ElectraOutput:
        """The generator alone fills masks, the first of two stages: the rest is not computed.

        The arguments are those of `pretrain`; what decides samples is not used.
        """
        padding_mask = src_tokens.eq(self.pad_idx) if has_padding else None
        masked, gen_logits = self.generate(
            src_tokens, picked, becomes_mask, padding_mask, places, token_types
        )
        idle = [self.encoder, self.discriminator_head, self.mlm_head]
        idle.append(None if self.generator.embeddings is None else self.embeddings)
        for module in idle:
            if module is not None:
                gen_logits = reach(gen_logits, module)
        return ElectraOutput(gen_logits, src_tokens.gather(1, picked), masked)

    def read(self, tokens, padding_mask, places, token_types) -> Tensor:
        """The discriminator's features (B, T, C) of tokens (B, T)."""
        return self.encoder(self.embeddings(tokens, token_types), padding_mask, places=places)

    def predict_words(self, features: Tensor, picked: Tensor) -> Tensor:
        """Logits (B, K, V) of the discriminator's encoder at the picked positions."""
        return self.mlm_head(
            gather_positions(features, picked), self.embeddings.embed_tokens.weight
        )

    def generate(
        self, src_tokens, picked, becomes_mask, padding_mask, places, token_types
    ) -> Tuple[Tensor, Tensor]:
        """Masked tokens (B, T), and the generator's logits (B, K, V) at the picked positions."""
        masked = mask_tokens(src_tokens, picked, becomes_mask, self.mask_idx)
        shared = self.embeddings
        return masked, self.generator(masked, token_types, padding_mask, picked, shared, places)

    def sample(
        self,
        gen_logits: Tensor,
        gen_targets: Tensor,
        uniform: Tensor,
        temperature: Optional[Tensor] = None,
    ) -> Tensor:
        """Draw the replacements (B, K) from the generator's logits (B, K, V)."""
        if self.disallow_correct:
            gen_logits = gen_logits.detach().scatter(2, gen_targets.unsqueeze(2), float("-inf"))
        temperature = self.temperature if temperature is None else temperature
        return sample_tokens(gen_logits, uniform, temperature)

    def encode(
        self,
        src_tokens: Tensor,
        src_lengths: Optional[Tensor] = None,
        token_types: Optional[Tensor] = None,
        features_only: bool = True,
        return_all_hiddens: bool = False,
        classification_head_name: Optional[str] = None,
        **head_input,
    ):
        """The discriminator on tokens as they are, with the arguments of fairseq's RobertaModel.

        Args:
            token_types: (B, T) 0 or 1; None marks the second sentence if a head is named, as
                fairseq's sentence tasks do not, and otherwise none.
            head_input: what the named head takes beside the features.

        Returns:
            What the head returns if one is named (class logits (B, N) of a ClassificationHead),
            features (B, T, C) if `features_only`, otherwise the discriminator's logits (B, T); and
            a dict with `inner_states`, a list of (B, T, C).
        """
        hiddens = [] if return_all_hiddens else None
        padding_mask = src_tokens.eq(self.pad_idx)
        if token_types is None and classification_head_name is not None:
            token_types = mark_second_sentence(src_tokens, self.eos_idx, self.pad_idx)
        x = self.encoder(self.embeddings(src_tokens, token_types), padding_mask, hiddens)
        if classification_head_name is not None:
            head = self.classification_heads[classification_head_name]
            if isinstance(head, ClassificationHead):
                head_input["padding_mask"] = padding_mask
            x = head(x, **head_input)
        elif not features_only:
            x = self.discriminator_head(x)
        return x, {"inner_states": hiddens}

    def register_classification_head(self, name: str, num_classes: int, **kwargs) -> None:
        """Add a head that `encode` applies by name; fairseq's sentence tasks call this."""
        hidden, dropout = self.cfg.encoder_embed_dim, self.cfg.dropout
        head = ClassificationHead(hidden, num_classes, dropout, str(self.cfg.pooling))
        self.add_head(name, head)

    def add_head(self, name: str, head: nn.Module) -> None:
        """Add a head that `encode` applies by name: features (B, T, C) -> anything."""
        self.classification_heads[name] = head

    def max_positions(self) -> int:
        """Longest sentence in tokens, `<s>` and `</s>` counted."""
        return self.cfg.max_positions

    def upgrade_state_dict_named(self, state_dict, name: str) -> None:
        """Check and adapt a checkpoint's tensors before they are loaded, in place."""
        super().upgrade_state_dict_named(state_dict, name)
        adapt_state_dict(self, state_dict)


def register_size(model: str, arch: str, size: Size) -> None:
    """An architecture of `model` (`electra`, `electra_mlm`) that has the sizes of a recipe."""

    def take_sizes(args) -> None:
        for name, value in size._asdict().items():
            setattr(args, name, getattr(args, name, value))

    register_model_architecture(model, arch)(take_sizes)


for name, size in SIZES.items():  # electra_tiny, electra_small, electra_base, electra_large
    register_size("electra", f"electra_{name}", size)
