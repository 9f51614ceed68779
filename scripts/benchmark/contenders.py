"""What the benchmark compares: training steps of this plugin, of Hugging Face and of fairseq.

In: a Setting (size, tokens, batch). Out: Contenders, whose `step(batch)` is one whole update of
forward pass, loss, backward pass, clipping and optimizer.
"""

import argparse
import importlib.util
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import torch
from fairseq.criterions.masked_lm import MaskedLmConfig, MaskedLmLoss
from fairseq.data import Dictionary
from fairseq.models.roberta.model import RobertaModel, base_architecture
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.utils import apply_to_sample
from omegaconf import OmegaConf

from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from fairseq_electra.data.pick_dataset import PickDataset, max_picks
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.modules.compiling import GRAPH_MODES, compile_obstacle
from fairseq_electra.optim.electra_adam import ElectraAdam, ElectraAdamConfig
from fairseq_electra.runs.count_flops import TransformerSize, electra_flops, masked_lm_flops
from fairseq_electra.runs.flops import read_arch

MASK_PROB = 0.15
DTYPES = ("float32", "bf16")  # of matrix products
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}  # fairseq's --bf16 and --fp16
COMPILED_MODES = {"cpu": ("default",), "cuda": ("default", "reduce-overhead", "max-autotune")}
RATE = 1e-4
HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None


@dataclass(frozen=True)
class Setting:
    """One measurement: a size of the paper, what a batch holds, and where it runs."""

    size: str  # "small", an arch electra_small
    tokens: int  # a sentence
    batch: int  # sentences
    device: torch.device
    vocab_size: int
    dropout: float

    @property
    def name(self) -> str:
        return f"{self.size}@{self.tokens}, batch {self.batch}"


class Contender(NamedTuple):
    """Something that trains: what it does with a batch, and what a token costs it."""

    name: str
    dtype: str  # of its matrix products
    step: Callable[[Dict], None]
    flops_per_token: float
    parameters: List[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer


class Task:
    """All that criterions and models of fairseq ask of a task here."""

    def __init__(self, dictionary: Dictionary):
        self.source_dictionary = self.target_dictionary = self.dictionary = dictionary
        self.trains_generator = True


def make_dictionary(vocab_size: int) -> Dictionary:
    """fairseq's specials, words without meaning, `<mask>`: `vocab_size` entries in all."""
    dictionary = Dictionary()
    for word in range(vocab_size - len(dictionary) - 1):
        dictionary.add_symbol(f"w{word}")
    dictionary.add_symbol("<mask>")
    return dictionary


def make_batches(setting: Setting, dictionary: Dictionary, number: int = 4) -> List[Dict]:
    """Batches of random words as `--task electra` makes them, on the device."""
    count = number * setting.batch
    generator = torch.Generator().manual_seed(1)
    shape = (count, setting.tokens)
    tokens = torch.randint(4, len(dictionary) - 1, shape, generator=generator)
    tokens[:, 0], tokens[:, -1] = dictionary.bos(), dictionary.eos()
    limit = max_picks(MASK_PROB, setting.tokens)
    dataset = PickDataset(tokens, [setting.tokens] * count, dictionary, MASK_PROB, limit)
    batches = []
    for start in range(0, count, setting.batch):
        batch = dataset.collater([dataset[i] for i in range(start, start + setting.batch)])
        batches.append(apply_to_sample(lambda tensor: tensor.to(setting.device), batch))
    return batches


def count_state_bytes(contender: Contender) -> int:
    """Bytes of weights, gradients and the optimizer's state, after a step."""
    states = contender.optimizer.state.values()
    states = [x for state in states for x in state.values() if torch.is_tensor(x)]
    updated = [p for group in contender.optimizer.param_groups for p in group["params"]]
    # the optimizer's are others, in float32, where the model's are in half precision
    weights = {id(p): p for p in (*contender.parameters, *updated)}.values()
    kept = [*weights, *weights, *states]  # a gradient is as large as its weight
    return sum(x.numel() * x.element_size() for x in kept)


def wrap_half(
    model: torch.nn.Module, name: str, optimizer_cfg: Dict, dtype: str, flatten: bool
) -> FP16Optimizer:
    """Weights in half precision and fairseq's optimizer around another, as --bf16 and --fp16."""
    model.to(HALF[dtype])
    cfg = {
        "common": {
            "fp16": dtype == "fp16",
            "bf16": dtype == "bf16",
            "fp16_no_flatten_grads": not flatten,
            "fp16_init_scale": 128,
            "fp16_scale_window": 128,
            "fp16_scale_tolerance": 0.0,
            "threshold_loss_scale": None,
            "min_loss_scale": 1e-4,
        },
        "optimizer": optimizer_cfg | {"_name": name},
        "distributed_training": {"distributed_world_size": 1},
        "optimization": {"update_freq": [1]},
    }
    return FP16Optimizer.build_optimizer(OmegaConf.create(cfg), list(model.parameters()))


def make_update(optimizer) -> Callable[[torch.Tensor], None]:
    """Backward pass, clipping, optimizer: how fairseq's trainer ends an update."""

    def update(loss: torch.Tensor) -> None:
        optimizer.backward(loss)
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()

    return update


def make_cfg(setting: Setting, **options) -> ElectraConfig:
    """The model's options at a setting's size."""
    size, generator_size = read_arch(f"electra_{setting.size}")
    return ElectraConfig(
        encoder_layers=size.layers,
        encoder_embed_dim=size.hidden,
        encoder_ffn_embed_dim=size.ffn,
        encoder_attention_heads=size.heads,
        embedding_size=size.embedding,
        generator_size=generator_size,
        max_positions=max(512, setting.tokens),
        dropout=setting.dropout,
        attention_dropout=setting.dropout,
        **options,
    )


def build_ours(
    setting: Setting, dictionary: Dictionary, half: Optional[str] = None, **options
) -> Contender:
    """This plugin's model, criterion and optimizer; `options` of ElectraConfig.

    `half`: bf16 or fp16, for fairseq's --bf16 or --fp16.
    """
    size, generator_size = read_arch(f"electra_{setting.size}")
    torch.manual_seed(0)
    cfg = make_cfg(setting, **options)
    model = ElectraModel(cfg, dictionary, pretrain=True).to(setting.device).train()
    criterion = ElectraCriterion(ElectraCriterionConfig(), Task(dictionary))
    if half is None:
        optimizer = ElectraAdam(ElectraAdamConfig(lr=[RATE]), model.parameters())
    else:
        optimizer = wrap_half(model, "electra_adam", {"lr": [RATE]}, half, flatten=False)
    update = make_update(optimizer)

    def step(batch: Dict) -> None:
        loss, sample_size, _ = criterion(model, batch)
        update(loss / sample_size)

    flops = electra_flops(size, generator_size, setting.vocab_size, setting.tokens, MASK_PROB)
    name = ", ".join(["fairseq_electra", *describe(half, options)])
    dtype = half or str(options.get("precision", "float32"))
    parameters = list(model.parameters())
    return Contender(name, dtype, step, sum(flops.values()), parameters, optimizer.optimizer)


def describe(half: Optional[str], options: Dict) -> List[str]:
    """Options as the table names them."""
    words = [f"--{half}" if half else str(options.get("precision", "float32"))]
    if "compile" in options:
        words.append(f"--compile {options['compile']}")
    if options.get("attention") == "reference":
        words.append("--attention reference")
    if options.get("checkpoint_activations"):
        words.append("--checkpoint-activations")
    return words


def mix(setting: Setting, dtype: str):
    """Autocast to bf16, or nothing."""
    if dtype == "bf16":
        return torch.autocast(setting.device.type, torch.bfloat16)
    return nullcontext()


def build_roberta(
    setting: Setting, dictionary: Dictionary, half: Optional[str] = None
) -> List[Contender]:
    """fairseq's stock RoBERTa with the discriminator's sizes, `masked_lm` and `adam`.

    One model in float32 and under autocast, which fairseq offers as --amp; or one with `half`
    weights, as --bf16 and --fp16.
    """
    size, _ = read_arch(f"electra_{setting.size}")
    torch.manual_seed(0)
    args = argparse.Namespace(
        encoder_layers=size.layers,
        encoder_embed_dim=size.hidden,
        encoder_ffn_embed_dim=size.ffn,
        encoder_attention_heads=size.heads,
        max_positions=max(512, setting.tokens),
        dropout=setting.dropout,
        attention_dropout=setting.dropout,
    )
    base_architecture(args)
    task = Task(dictionary)
    model = RobertaModel.build_model(args, task).to(setting.device).train()
    criterion = MaskedLmLoss(MaskedLmConfig(tpu=False), task)
    # tpu is taken from fairseq's other options, and true for what is no option at all
    adam = {"lr": [RATE], "adam_betas": "(0.9, 0.999)", "adam_eps": 1e-6, "tpu": False}
    if half is None:
        optimizer = FairseqAdam(FairseqAdamConfig(**adam), list(model.parameters()))
    else:
        cfg = vars(FairseqAdamConfig(**adam)) | adam
        optimizer = wrap_half(model, "adam", cfg, half, flatten=True)
    update = make_update(optimizer)
    mask, pad = dictionary.index("<mask>"), dictionary.pad()

    def step(batch: Dict, dtype: str) -> None:
        tokens, picked = batch["net_input"]["src_tokens"], batch["net_input"]["picked"]
        is_picked = torch.zeros_like(tokens, dtype=torch.bool).scatter_(1, picked, True)
        sample = {
            "net_input": {"src_tokens": tokens.masked_fill(is_picked, mask), "src_lengths": None},
            "target": tokens.masked_fill(~is_picked, pad),
        }
        with nullcontext() if half else mix(setting, dtype):
            loss, sample_size, _ = criterion(model, sample | {"ntokens": 0, "nsentences": 0})
        update(loss / sample_size)

    flops = masked_lm_flops(size.as_roberta(), setting.vocab_size, setting.tokens, MASK_PROB)
    names = {"float32": "fairseq's RoBERTa, float32", "bf16": "fairseq's RoBERTa, bf16 autocast"}
    if half:
        names = {half: f"fairseq's RoBERTa, --{half}"}
    parameters = list(model.parameters())
    return list_dtypes(names, step, sum(flops.values()), parameters, optimizer.optimizer)


def list_dtypes(names: Dict[str, str], step: Callable, flops: float, *state) -> List[Contender]:
    """One model's contenders, by dtype; `state` is its parameters and its optimizer."""
    return [
        Contender(name, dtype, partial(step, dtype=dtype), flops, *state)
        for dtype, name in names.items()
    ]


def configure_hugging_face(setting: Setting, network: TransformerSize, attention: str, **options):
    """transformers' ElectraConfig of one network; `options` are further ones of it."""
    from transformers import ElectraConfig as HuggingFaceConfig

    return HuggingFaceConfig(
        vocab_size=setting.vocab_size,
        embedding_size=network.embedding,
        hidden_size=network.hidden,
        num_hidden_layers=network.layers,
        num_attention_heads=network.heads,
        intermediate_size=network.ffn,
        max_position_embeddings=max(512, setting.tokens),
        hidden_dropout_prob=setting.dropout,
        attention_probs_dropout_prob=setting.dropout,
        attn_implementation=attention,
        **options,
    )


def build_hugging_face(setting: Setting, dictionary: Dictionary, attention: str) -> List[Contender]:
    """transformers' two classes trained jointly, as its users do.

    One pair in float32 and under autocast. ElectraForMaskedLM makes logits of every position;
    embeddings are shared; torch's fused AdamW. Nothing is padded, so no mask is given: with one,
    both look on the device whether it is all ones, and the discriminator's loss selects by it.
    """
    from transformers import ElectraForMaskedLM, ElectraForPreTraining

    size, generator_size = read_arch(f"electra_{setting.size}")
    torch.manual_seed(0)
    generator, discriminator = (
        network_class(configure_hugging_face(setting, network, attention))
        for network_class, network in (
            (ElectraForMaskedLM, size.generator(generator_size)),
            (ElectraForPreTraining, size),
        )
    )
    for network in (generator, discriminator):
        network.to(setting.device).train()
    generator.electra.embeddings = discriminator.electra.embeddings
    generator.tie_weights()
    parameters = list({*generator.parameters(), *discriminator.parameters()})
    optimizer = torch.optim.AdamW(parameters, lr=RATE, eps=1e-6, weight_decay=0.01, fused=True)
    mask = dictionary.index("<mask>")

    def step(batch: Dict, dtype: str) -> None:
        tokens, picked = batch["net_input"]["src_tokens"], batch["net_input"]["picked"]
        is_picked = torch.zeros_like(tokens, dtype=torch.bool).scatter_(1, picked, True)
        with mix(setting, dtype):
            masked = generator(
                input_ids=tokens.masked_fill(is_picked, mask),
                labels=tokens.masked_fill(~is_picked, -100),
            )
            corrupted = replace(tokens, is_picked, masked.logits)
            judged = discriminator(
                input_ids=corrupted,
                labels=corrupted.ne(tokens).long(),
            )
            loss = masked.loss + 50 * judged.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    flops = electra_flops(size, generator_size, setting.vocab_size, setting.tokens, MASK_PROB)
    names = {dtype: f"Hugging Face {attention}, {dtype}" for dtype in DTYPES}
    return list_dtypes(names, step, sum(flops.values()), parameters, optimizer)


@torch.no_grad()
def replace(tokens: torch.Tensor, is_picked: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Samples of the generator at the picked positions, with Gumbel noise."""
    there = logits[is_picked].float()
    noise = -torch.log(-torch.log(torch.rand_like(there).clamp_(min=1e-9)))
    return tokens.masked_scatter(is_picked, (there + noise).argmax(-1))


Builder = Callable[[], List[Contender]]


def list_contenders(
    setting: Setting, dictionary: Dictionary, compiled: bool
) -> Tuple[List[List[Builder]], Dict[str, str]]:
    """What builds everything that is measured at a setting, in groups, and what cannot be.

    The first group is that of all contenders whose memory is free between steps.
    """

    def ours(**options) -> Builder:
        return lambda: [build_ours(setting, dictionary, **options)]

    device, notes = setting.device, {}
    group = [ours(), ours(precision="bf16"), ours(attention="reference")]
    group.append(ours(precision="bf16", checkpoint_activations=True))
    group.append(lambda: build_roberta(setting, dictionary))
    if device.type == "cuda":  # fairseq has no such training on the CPU
        group += [ours(half=half) for half in HALF]
        group += [partial(build_roberta, setting, dictionary, half) for half in HALF]
    for attention in ("eager", "sdpa"):
        if HAS_TRANSFORMERS:
            group.append(partial(build_hugging_face, setting, dictionary, attention))
        else:
            notes[f"Hugging Face {attention}"] = "not run: transformers is not installed"
    groups = [group]
    for mode in COMPILED_MODES[device.type] if compiled else ():
        for precision in DTYPES:
            obstacle = compile_obstacle(mode, device)
            if obstacle is not None:
                notes[f"fairseq_electra, {precision}, --compile {mode}"] = f"not run: {obstacle}"
            elif mode in GRAPH_MODES:
                groups.append([ours(precision=precision, compile=mode)])
            else:
                group.append(ours(precision=precision, compile=mode))
    return groups, notes
