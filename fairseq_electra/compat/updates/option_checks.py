"""Values of fairseq's own options that no training can have meant: refused before it begins.

`compat/updates/` calls both checks where fairseq makes its trainer.
"""

import math

from fairseq import utils as fairseq_utils


def check_options(cfg, has_gpu: bool) -> None:
    """ValueError that names the option, and what is allowed, for a value without a meaning.

    fairseq divides by some of them (`--required-batch-size-multiple 0` ends the process by a
    signal), and takes others for "no limit" or trains on them backwards.

    Args:
        cfg: fairseq's whole configuration.
    """
    check_half(cfg.common, has_gpu)
    check_sharding(cfg)
    for option, value, least in list_counts(cfg):
        if value is not None and value < least:
            raise ValueError(f"--{option} must be a whole number, {least} or more, not {value}")
    if not cfg.optimization.clip_norm >= 0:  # also NaN
        raise ValueError(
            "--clip-norm must be a number, 0 or more (0: gradients are not clipped), not "
            f"{cfg.optimization.clip_norm:g}"
        )
    for rate in cfg.optimization.lr:
        if not 0 <= rate < math.inf:
            raise ValueError(f"--lr must be a number, 0 or more, not {rate:g}")


def check_best_metric(cfg, criterion) -> None:
    """ValueError if not every validation will measure what --best-checkpoint-metric names.

    fairseq looks for it in each, before it saves: the training until then would be lost.

    Args:
        cfg: fairseq's whole configuration.
        criterion: whose `metric_names` are what each validation has, if it says so.
    """
    name, known = cfg.checkpoint.best_checkpoint_metric, getattr(criterion, "metric_names", None)
    if known is not None and name not in known and not cfg.dataset.disable_validation:
        raise ValueError(
            f"--best-checkpoint-metric {name} is not what every validation measures: give one of "
            f"{', '.join(known)}"
        )


def list_counts(cfg) -> list:
    """Options that count something, their values (None: not given) and the least allowed."""
    data = cfg.dataset
    return [
        ("required-batch-size-multiple", data.required_batch_size_multiple, 1),
        ("batch-size", data.batch_size, 1),
        ("batch-size-valid", data.batch_size_valid, 1),
        ("max-tokens", data.max_tokens, 1),
        ("max-tokens-valid", data.max_tokens_valid, 1),
        ("max-valid-steps", data.max_valid_steps, 0),
        ("log-interval", cfg.common.log_interval, 1),
        *(("update-freq", number, 1) for number in cfg.optimization.update_freq),
    ]


def check_half(common, has_gpu: bool) -> None:
    """ValueError for fairseq's half precision where it does not train in it.

    --bf16 would take a TPU, "'NoneType' object has no attribute 'xla_device'", and --fp16 ends in
    torch's "not compiled with CUDA enabled".
    """
    option = next((name for name in ("fp16", "bf16") if getattr(common, name)), None)
    if option is not None and fairseq_utils.xm is None and (common.cpu or not has_gpu):
        raise ValueError(
            f"--{option} needs a GPU in fairseq. Available on the CPU: --precision bf16"
        )


def check_sharding(cfg) -> None:
    """ValueError for fully sharded training with an optimizer of this plugin.

    It joins parameters to flat ones, in which biases, which do not decay, cannot be told apart, and
    ends in fairseq's AssertionError.
    """
    optimizer = str(getattr(cfg.optimizer, "_name", None))
    is_sharded = cfg.distributed_training.ddp_backend == "fully_sharded"
    if is_sharded and optimizer.startswith("electra_"):
        raise ValueError(
            f"--ddp-backend fully_sharded cannot be used with --optimizer {optimizer}: leave it "
            "out, or give --ddp-backend legacy_ddp --zero-sharding os, which shares out the "
            "optimizer's state"
        )
