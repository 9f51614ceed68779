"""A stand-in for NVIDIA's Apex and parameters that say they are on a GPU."""

import sys
import types

import pytest
import torch


class CudaParameter(torch.nn.Parameter):
    """A CPU parameter that claims to be on a CUDA device."""

    is_cuda = True


class RecordingOptimizer(torch.optim.Optimizer):
    """Takes any options, as an Apex optimizer does, and keeps them in ``config``."""

    further = {}  # options of its own, which the plugin does not give

    def __init__(self, params, **config):
        super().__init__(params, self.further | config)
        self.config = config


class FusedAdam(RecordingOptimizer):
    """Stands for apex.optimizers.FusedAdam."""


class FusedLAMB(RecordingOptimizer):
    """Stands for apex.optimizers.FusedLAMB."""

    further = {"grad_averaging": True}


@pytest.fixture
def cuda_params():
    """A matrix and a bias on what looks like a GPU."""
    return [CudaParameter(torch.ones(2, 3)), CudaParameter(torch.ones(3))]


@pytest.fixture
def no_apex(monkeypatch):
    """An environment without any `apex`."""
    monkeypatch.setitem(sys.modules, "apex", None)


@pytest.fixture
def wrong_apex(monkeypatch):
    """An environment with PyPI's `apex`, a web toolkit: importable, without optimizers."""
    package = types.ModuleType("apex")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "apex", package)
    monkeypatch.delitem(sys.modules, "apex.optimizers", raising=False)


@pytest.fixture
def fake_apex(monkeypatch):
    """An environment with NVIDIA's Apex and its CUDA extensions."""
    package, optimizers = types.ModuleType("apex"), types.ModuleType("apex.optimizers")
    package.__path__ = []
    package.optimizers = optimizers
    optimizers.FusedAdam, optimizers.FusedLAMB = FusedAdam, FusedLAMB
    monkeypatch.setitem(sys.modules, "apex", package)
    monkeypatch.setitem(sys.modules, "apex.optimizers", optimizers)
    monkeypatch.setitem(sys.modules, "amp_C", types.ModuleType("amp_C"))
    return optimizers
