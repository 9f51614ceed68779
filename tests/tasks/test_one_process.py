"""fairseq-validate of pre-training is for one process: it would send a histogram for each batch."""

import pytest
import torch

from fairseq_electra.tasks.electra import ElectraTask, ElectraTaskConfig


def test_validating_with_several_processes_is_refused(data_bin, monkeypatch):
    """Not what training loads; fairseq-validate gives `task_cfg`."""
    task = ElectraTask.setup_task(ElectraTaskConfig(data=str(data_bin), tokens_per_sample=32))
    task.load_dataset("valid", task_cfg=task.cfg)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    task.load_dataset("valid")
    with pytest.raises(ValueError, match="--distributed-world-size 1"):
        task.load_dataset("valid", task_cfg=task.cfg)
