"""Which options of a run differ from those that its checkpoint was made with.

In: the configuration in a checkpoint, and the one of this run. Out: the changes that reach the
numbers, as the command line has them. `resuming.py` says them.
"""

from typing import Any, Dict, List, NamedTuple

from omegaconf import OmegaConf

CHOICES = {  # what fairseq keeps as the name of a section
    "task": "task",
    "model": "arch",
    "criterion": "criterion",
    "optimizer": "optimizer",
    "lr_scheduler": "lr-scheduler",
}
COMPARED_SECTIONS = (*CHOICES, "ema")  # but for LEFT_OUT
COMPARED_OPTIONS = {  # of other sections
    "common": ("seed", "fp16", "bf16", "amp", "memory_efficient_fp16", "memory_efficient_bf16"),
    "dataset": ("train_subset", "batch_size", "max_tokens", "required_batch_size_multiple"),
    "optimization": ("lr", "clip_norm", "max_update", "update_freq", "sentence_avg"),
}
LEFT_OUT = {
    *("data", "weight_init"),  # compared by what is in it (data/same_data.py); no part of a resume
    "untie_embeddings",  # the former name of --embedding-sharing none
    *("attention", "compile", "checkpoint_activations", "adam_impl", "lamb_impl"),  # the same sums
}
# the place in an epoch is a number of batches, in an order that these decide
ORDER = {
    *("--seed", "--train-subset", "--sample-break-mode", "--tokens-per-sample", "--sentence-pairs"),
    *("--batch-size", "--max-tokens", "--required-batch-size-multiple"),
}
BATCHES = "batches an update (--update-freq times workers)"


class Change(NamedTuple):
    """An option with another value than it had."""

    option: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.option} {show(self.before)} -> {show(self.now)}"


def list_changes(saved: Dict, cfg) -> List[Change]:
    """The changes that reach a run's numbers; options that one of both lacks are left out.

    More workers with a smaller --update-freq, or the other way round, are the same run.

    Args:
        saved: `cfg` of a checkpoint.
        cfg: fairseq's whole configuration.
    """
    if not OmegaConf.is_config(cfg) or not isinstance(saved, dict):
        return []  # a trainer that a user built, or a checkpoint from before fairseq 0.10
    now = read_options(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    before = read_options(saved)
    return [
        Change(option, before[option], value)
        for option, value in now.items()
        if option in before and before[option] != value
    ]


def read_options(cfg: Dict) -> Dict[str, Any]:
    """Values by the names that they have on the command line."""
    found = {}
    for section in COMPARED_SECTIONS:
        # a stock architecture without a dataclass has a Namespace of all options there
        values = cfg.get(section)
        if isinstance(values, dict):
            found |= {name: values[name] for name in values.keys() - LEFT_OUT - {"_name"}}
            if "untie_embeddings" in values:
                default = "none" if values["untie_embeddings"] else "all"
                found["embedding_sharing"] = values.get("embedding_sharing") or default
            if section in CHOICES:
                found[CHOICES[section]] = values.get("_name")
    for section, names in COMPARED_OPTIONS.items():
        found |= {name: cfg[section][name] for name in names if name in cfg.get(section, {})}
    options = {"--" + name.replace("_", "-"): found[name] for name in sorted(found)}
    workers = cfg.get("distributed_training", {}).get("distributed_world_size", 1)
    options[BATCHES] = [count * workers for count in options.pop("--update-freq", [])]
    return options


def show(value) -> str:
    """As the command line has it."""
    return ",".join(map(show, value)) if isinstance(value, (list, tuple)) else f"{value}"
