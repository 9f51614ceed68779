"""The option names, through fairseq's own parser and registries."""

import pytest
import torch
from fairseq import optim, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.optim.lr_scheduler import build_lr_scheduler

import fairseq_electra.optim  # noqa: F401 (registers)
from fairseq_electra.optim.electra_adam import ElectraAdam, ReferenceAdam
from fairseq_electra.optim.electra_decay import ElectraDecaySchedule


def build(*words):
    """Build optimizer and schedule from the words of a command line, as fairseq's trainer does."""
    parser = options.get_training_parser()
    task = ["--task", "dummy_masked_lm", "--arch", "roberta_base"]
    args = options.parse_args_and_arch(parser, [*task, *words])
    cfg = convert_namespace_to_omegaconf(args)
    params = [torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))]
    optimizer = optim.build_optimizer(cfg.optimizer, params)
    schedule = build_lr_scheduler(cfg.lr_scheduler, optimizer)
    return optimizer, schedule


ELECTRA = ["--optimizer", "electra_adam", "--lr-scheduler", "electra_decay"]


def test_defaults_are_the_authors():
    optimizer, schedule = build(*ELECTRA, "--lr", "5e-4", "--max-update", "1000000")
    assert isinstance(optimizer, ElectraAdam)
    assert optimizer.optimizer_config == {
        "lr": 5e-4,
        "betas": (0.9, 0.999),
        "eps": 1e-6,
        "weight_decay": 0.01,
        "bias_correction": False,
    }
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert isinstance(schedule, ElectraDecaySchedule)
    assert schedule.step_update(5000) == pytest.approx(5e-4 * 0.995 * 0.5)


def test_every_option_arrives():
    optimizer, schedule = build(
        *ELECTRA,
        *["--lr", "0.1", "--adam-betas", "(0.8, 0.95)", "--adam-eps", "1e-5"],
        *["--weight-decay", "0.2", "--adam-bias-correction", "--adam-impl", "reference"],
        *["--warmup-updates", "2", "--total-num-update", "100", "--power", "2"],
    )
    assert isinstance(optimizer.optimizer, ReferenceAdam)
    assert optimizer.optimizer_config == {
        "lr": 0.1,
        "betas": (0.8, 0.95),
        "eps": 1e-5,
        "weight_decay": 0.2,
        "bias_correction": True,
    }
    assert schedule.step_update(50) == pytest.approx(0.1 * 0.25)


def test_no_updates_given():
    with pytest.raises(ValueError, match="give --max-update"):
        build(*ELECTRA)


def test_two_rates_given():
    with pytest.raises(ValueError, match="--lr takes one value"):
        build(*ELECTRA, "--max-update", "10", "--lr", "0.1,0.01")


def test_apex_asked_for_and_absent(no_apex):
    with pytest.raises(ValueError, match="--adam-impl apex needs NVIDIA's Apex"):
        build(*ELECTRA, "--max-update", "10", "--adam-impl", "apex")


def test_an_unknown_implementation_is_refused(capsys):
    with pytest.raises(SystemExit):
        build(*ELECTRA, "--adam-impl", "fast")
    assert "--adam-impl: invalid choice: 'fast'" in capsys.readouterr().err


def test_lamb_without_apex(no_apex):
    with pytest.raises(ValueError, match="--lamb-impl apex needs NVIDIA's Apex"):
        build("--optimizer", "electra_lamb", "--lamb-eps", "1e-5", "--lamb-impl", "apex")
