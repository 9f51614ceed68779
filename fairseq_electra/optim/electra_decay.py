"""ELECTRA's learning rate, ``--lr-scheduler electra_decay``: warm-up times decay to 0.

In: --lr (the peak), --warmup-updates, --max-update. Out: the rate of each update.
"""

import logging
from dataclasses import dataclass, field
from typing import List, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer
from fairseq.optim.lr_scheduler import FairseqLRScheduler, register_lr_scheduler
from omegaconf import II

logger = logging.getLogger(__name__)


@dataclass
class ElectraDecayConfig(FairseqDataclass):
    """Options of electra_decay."""

    warmup_updates: int = field(
        default=10000,
        metadata={"help": "updates over which the rate is raised linearly; 0: no warm-up"},
    )
    # Not an interpolation, as in polynomial_decay: fairseq's parser turns that into None.
    total_num_update: Optional[float] = field(
        default=None,
        metadata={"help": "the update at which the rate reaches 0 (default: --max-update)"},
    )
    power: float = field(default=1.0, metadata={"help": "exponent of the decay; 1: linear"})
    lr: List[float] = field(default=II("optimization.lr"))
    max_update: int = field(default=II("optimization.max_update"))


def rate_at(update: int, peak: float, warmup: int, total: float, power: float = 1.0) -> float:
    """Return the learning rate of update number ``update``, counted from 0.

    ``peak * (1 - update / total) ** power * min(1, update / warmup)``, 0 from ``total`` on. The
    two factors multiply (google-research/electra, model/optimization.py), so the first update has
    rate 0 and ``peak`` itself is never reached. Their code gives NaN for ``warmup`` 0; here it
    means no warm-up.
    """
    if update >= total:
        return 0.0
    warm = min(1.0, update / warmup) if warmup else 1.0
    return peak * (1.0 - update / total) ** power * warm


def total_updates(cfg: ElectraDecayConfig) -> float:
    """Return the update at which the rate reaches 0; ValueError if neither option gives it."""
    total = cfg.max_update if cfg.total_num_update is None else cfg.total_num_update
    if not total > 0:
        raise ValueError(
            "--lr-scheduler electra_decay must know the number of updates: give --max-update "
            f"(or --total-num-update), got {total:g}"
        )
    return total


def check_schedule(cfg: ElectraDecayConfig) -> None:
    """Raise ValueError, naming the option, for a schedule that cannot be meant."""
    if len(cfg.lr) != 1:
        raise ValueError(f"--lr takes one value with electra_decay, the peak, got {list(cfg.lr)}")
    if cfg.warmup_updates < 0:
        raise ValueError(f"--warmup-updates must be 0 or more, got {cfg.warmup_updates}")
    if not cfg.power >= 0:
        raise ValueError(f"--power must be 0 or more, got {cfg.power}")
    if cfg.warmup_updates >= total_updates(cfg):
        logger.warning(
            "--warmup-updates %d is not below the run's %g updates: all of it is warm-up",
            cfg.warmup_updates,
            total_updates(cfg),
        )


@register_lr_scheduler("electra_decay", dataclass=ElectraDecayConfig)
class ElectraDecaySchedule(FairseqLRScheduler):
    """Sets the rate from the number of updates alone: epochs and validation do not matter."""

    def __init__(self, cfg: ElectraDecayConfig, optimizer: FairseqOptimizer):
        super().__init__(cfg, optimizer)
        check_schedule(cfg)
        self.step_update(0)

    def step_update(self, num_updates: int) -> float:
        """Set and return the rate of the update that follows ``num_updates`` updates."""
        cfg = self.cfg
        total = total_updates(cfg)
        self.optimizer.set_lr(rate_at(num_updates, cfg.lr[0], cfg.warmup_updates, total, cfg.power))
        return self.optimizer.get_lr()
