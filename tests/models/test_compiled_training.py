"""`fairseq-train --compile`: the same losses as without, few shapes, no graph break.

torch's "eager" backend traces as inductor does, with the same errors, and needs no compiler.
"""

import json
import re
import sys

import pytest
import torch

from fairseq_electra.modules import compiling
from fairseq_electra.modules.compiling import choose_lengths, compile_step, keep_gradients
from tiny import TINY_OPTIONS

TRACE = """
import torch
from fairseq_cli.train import cli_main

compile = torch.compile
traced = []

def trace(step, mode, **options):
    return compile(step, backend=note, **options)

def note(graph, inputs):
    traced.append(graph)
    return graph

torch.compile = trace
cli_main()
print("traced", len(traced))
"""


def train(run_command, data_bin, save_dir, *options):
    """The losses of every update and validation, and how many graphs were traced."""
    output = run_command(
        *(sys.executable, "-c", TRACE, data_bin, "--user-dir", "fairseq_electra", "--cpu"),
        *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny", *TINY_OPTIONS),
        *("--optimizer", "electra_adam", "--lr", "1e-3", "--clip-norm", 1.0, "--max-update", 30),
        *("--tokens-per-sample", 32, "--batch-size", 8, "--num-workers", 0, "--save-dir", save_dir),
        *("--validate-interval-updates", 10, "--no-epoch-checkpoints", "--log-interval", 1),
        *("--log-format", "json", *options),
    ).output
    losses = [
        float(json.loads(line.split(" | ")[-1])[f"{prefix}loss"])
        for name, prefix in (("train_inner", ""), ("valid", "valid_"))
        for line in output.splitlines()
        if f"| {name} | {{" in line
    ]
    assert len(losses) >= 33
    return losses, int(re.search(r"^traced (\d+)$", output, re.MULTILINE)[1])


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("options", "graphs"),
    [
        (("--sample-break-mode", "none", "--checkpoint-activations"), 12),
        (("--sample-break-mode", "none"), 12),
        # sentences of 5 to 24 tokens, one a block: 53 graphs if each length were one
        (("--sample-break-mode", "eos", "--disallow-correct"), 20),
        (("--criterion", "electric", "--two-tower-generator"), 12),
        (("--sample-break-mode", "none", "--embedding-sharing", "gdes"), 12),
        # two steps
        (("--mlm-updates", 12, "--weight-init", "local", "--disallow-correct"), 20),
        (("--sample-break-mode", "none", "--clm-weight", 1), 12),
    ],
)
def test_losses_are_those_of_the_plain_step(run_command, data_bin, tmp_path, options, graphs):
    """Each shape is traced in training and in validation, in the model and in the criterion."""
    plain, none = train(run_command, data_bin, tmp_path / "plain", *options)
    compiled, some = train(run_command, data_bin, tmp_path, "--compile", "default", *options)
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert none == 0 and 4 <= some <= graphs
    checkpoints = [
        torch.load(folder / "checkpoint_last.pt", weights_only=False)
        for folder in (tmp_path, tmp_path / "plain")
    ]
    assert checkpoints[0]["model"].keys() == checkpoints[1]["model"].keys()


def test_lengths_that_batches_are_padded_to():
    assert choose_lengths(128) == [32, 64, 96, 128]
    assert choose_lengths(510) == [128, 255, 383, 510]
    assert choose_lengths(8) == [2, 4, 6, 8]


def test_shapes_beyond_the_limit_are_computed_plainly(monkeypatch, caplog):
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode, **o: compile(f, backend="eager", **o))
    monkeypatch.setattr(compiling, "MOST_SHAPES", 2)
    seen = []

    def step(x):
        if not torch.compiler.is_compiling():
            seen.append(len(x))
        return x + 1

    compiled = compile_step(step, "default", torch.device("cpu"))
    caplog.clear()
    for size in (3, 4, 5, 3, 6, 5, 4):
        assert torch.equal(compiled(torch.zeros(size)), torch.ones(size))
    assert seen == [5, 6, 5]
    (warning,) = [record for record in caplog.records if record.name == compiling.__name__]
    assert "--compile: batches have more than 2 shapes" in warning.getMessage()


class Replay(torch.autograd.Function):
    """A backward pass that writes to the same memory each time, as a CUDA graph's does."""

    memory = torch.zeros(3)

    @staticmethod
    def forward(ctx, x, value):
        ctx.value = value
        return x.sum()

    @staticmethod
    def backward(ctx, grad):
        return Replay.memory.fill_(ctx.value).detach(), None


@pytest.mark.parametrize(("mode", "total"), [("default", 4.0), ("reduce-overhead", 3.0)])
def test_gradients_of_two_batches_outlive_a_graphs_replay(mode, total):
    weight = torch.nn.Parameter(torch.zeros(3))
    keep_gradients([weight], mode, torch.device("cuda"))
    for value in (1.0, 2.0):
        Replay.apply(weight, value).backward()
    assert weight.grad.tolist() == [total] * 3
