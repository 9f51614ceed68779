"""Changes in fairseq's updates: options, numbers, what is logged and averaged."""

import torch
from fairseq.logging import progress_bar
from fairseq.logging.meters import MetersDict
from fairseq.models.ema.ema import EMA
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.trainer import Trainer

from fairseq_electra.compat.updates.divergence import check_growth, describe_stop
from fairseq_electra.compat.updates.option_checks import check_best_metric, check_options
from fairseq_electra.process.state import process_state


def check_options_first() -> None:
    """Refuse values of fairseq's options that it would end badly on (option_checks.py).

    `--required-batch-size-multiple 0` ends the process by a signal, `--batch-size 0` is no limit,
    `--update-freq 0` a ZeroDivisionError, half precision on the CPU an error about a TPU, and a
    wrong `--best-checkpoint-metric` a KeyError when the first checkpoint should be saved.
    Needed by every fairseq to date.
    """
    original = Trainer.__init__

    def __init__(self, cfg, task, model, criterion, *args, **kwargs):
        check_options(cfg, torch.cuda.is_available())
        check_best_metric(cfg, criterion)
        original(self, cfg, task, model, criterion, *args, **kwargs)

    Trainer.__init__ = __init__


def go_on_from_own_checkpoints() -> None:
    """Let a run load a checkpoint of the model, task and criterion that it trains itself.

    `guard_checkpoints` refuses those of fairseq whose options reach eval(); but a run builds
    nothing by a checkpoint's options, and could never go on. Needed where that change is.
    """
    original = Trainer.__init__

    def __init__(self, cfg, *args, **kwargs):
        for kind in ("model", "task", "criterion"):
            section = getattr(cfg, kind)
            names = (getattr(section, name, None) for name in ("_name", "arch", kind))
            process_state.in_training.update(
                (kind, name) for name in names if isinstance(name, str)
            )
        original(self, cfg, *args, **kwargs)

    Trainer.__init__ = __init__


MAX_SHOWN_ELEMENTS = 8


def shorten_logged_tensors() -> None:
    """Print a long tensor in a progress bar as its shape.

    fairseq-validate prints every logging output of every batch, and the criterion's histogram
    (from which the AUC comes) has thousands of elements. No fairseq has a hook for it.
    """
    original = progress_bar.format_stat

    def format_stat(stat):
        if torch.is_tensor(stat) and stat.numel() > MAX_SHOWN_ELEMENTS:
            return f"<{'x'.join(str(size) for size in stat.shape)}>"
        return original(stat)

    progress_bar.format_stat = format_stat


def explain_divergence() -> None:
    """End a training that diverges with what happened and where to go on.

    Where gradients are not finite, fairseq's message names neither the update nor the loss nor a
    checkpoint, and with several workers it advises another --ddp-backend. A loss that grows and
    stays finite does not stop it. Needed by every fairseq to date.
    """
    original = Trainer.train_step

    def train_step(self, samples, raise_oom=False):
        logs = []
        hook = self.criterion.register_forward_hook(lambda *call: logs.append(call[-1][-1]))
        try:
            output = original(self, samples, raise_oom)
        except Exception as error:
            # fairseq runs the batches again to find the module, and that may fail in its own way
            stop = error if isinstance(error, FloatingPointError) else error.__context__
            if not isinstance(stop, FloatingPointError):
                raise
            message = describe_stop(self, logs[: len(samples)], stop)
            raise FloatingPointError(message) from error
        finally:
            hook.remove()
        if output is not None:  # None: no update was made, as after an overflow
            check_growth(self)
        return output

    Trainer.train_step = train_step


def read_device_once() -> None:
    """Read one number off the device in each update, instead of one for every metric.

    Whatever is read makes the CPU wait for the GPU. fairseq rounds all metrics after each update
    although it prints them every --log-interval, and looks at the gradients' norm again after the
    optimizer's step. What is left is its look before the step, which stops a run that diverges.
    Needed by every fairseq to date.
    """
    clip_grad_norm, reduce_and_log = Trainer.clip_grad_norm, Trainer._reduce_and_log_stats

    def clip_grad_norm_on_cpu(self, *args, **kwargs):
        norm = clip_grad_norm(self, *args, **kwargs)
        return norm.cpu() if torch.is_tensor(norm) else norm

    def reduce_and_log_unread(self, logging_outputs, sample_size, grad_norm=None):
        if grad_norm is None:  # a validation, whose figures are read from another aggregate
            return reduce_and_log(self, logging_outputs, sample_size)
        read = MetersDict.get_smoothed_values
        MetersDict.get_smoothed_values = lambda meters: {}
        try:
            return reduce_and_log(self, logging_outputs, sample_size, grad_norm)
        finally:
            MetersDict.get_smoothed_values = read

    Trainer.clip_grad_norm = clip_grad_norm_on_cpu
    Trainer._reduce_and_log_stats = reduce_and_log_unread


def unscale_once() -> None:
    """Divide the gradients of --amp by the loss scale once.

    torch remembers for each optimizer object whether it did. fairseq names the inner one when it
    clips and its wrapper when it steps, so gradients were divided again after clipping.
    Needed by every fairseq to date.
    """

    def step(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()

    AMPOptimizer.step = step


def average_numbers_only() -> None:
    """Let --store-ema copy integers, such as a dictionary's fingerprint, and average the rest.

    fairseq multiplies them too: torch says "result type Float can't be cast to Long". What is
    frozen is copied as well: the mean of equal numbers is another one in the last bit.
    Needed by every fairseq to date.
    """
    original = EMA.__init__

    def __init__(self, model, config, device=None, skip_keys=None):
        tensors = model.state_dict().items()
        copied = {name for name, tensor in tensors if not torch.is_floating_point(tensor)}
        copied |= {name for name, param in model.named_parameters() if not param.requires_grad}
        original(self, model, config, device, copied | (skip_keys or set()))

    EMA.__init__ = __init__
