"""Changes in fairseq's updates; more in test_divergence.py and optim/test_float16.py."""

import re
import sys

import pytest
import torch
from fairseq.dataclass.configs import EMAConfig
from fairseq.logging import progress_bar
from fairseq.models.ema.ema import EMA

from tiny import TINY_OPTIONS


def test_long_tensors_are_printed_as_their_shape():
    assert progress_bar.format_stat(torch.zeros(2, 1024)) == "<2x1024>"
    assert progress_bar.format_stat(torch.tensor(1.5)) == 1.5
    assert progress_bar.format_stat(3) == "3"


COUNT_READS = """
from fairseq_cli.train import cli_main  # first, as it makes the log's format
import torch
import fairseq_electra
from fairseq.trainer import Trainer
from torch.utils._python_dispatch import TorchDispatchMode

class Reads(TorchDispatchMode):
    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))

train_step = Trainer.train_step

def count(self, *args, **kwargs):
    with Reads() as reads:
        result = train_step(self, *args, **kwargs)
    print("reads", reads.number)
    return result

Trainer.train_step = count
cli_main()
"""


def test_an_update_reads_one_number_off_the_device(run_command, data_bin, tmp_path):
    """The gradients' norm, which fairseq then looks at twice; a copy to the CPU is none here."""
    output = run_command(
        *(sys.executable, "-c", COUNT_READS, data_bin, "--user-dir", "fairseq_electra", "--cpu"),
        *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny", *TINY_OPTIONS),
        *("--optimizer", "electra_adam", "--lr", "1e-3", "--clip-norm", 1.0, "--max-update", 4),
        *("--tokens-per-sample", 32, "--batch-size", 8, "--update-freq", 2, "--num-workers", 0),
        *("--sample-break-mode", "complete", "--log-interval", 100, "--disable-validation"),
        *("--no-save", "--save-dir", tmp_path),
    ).output
    assert re.findall(r"^reads (\d+)$", output, re.MULTILINE) == ["2"] * 4
    assert re.search(r"train \|.* loss [\d.]+ .*disc_auc 0\.\d+", output)


@pytest.mark.parametrize("option", ["fp16", "bf16"])
def test_half_precision_on_the_cpu_is_refused(train_electra, data_bin, tmp_path, option):
    done = train_electra(data_bin, tmp_path, f"--{option}", "--fp16-no-flatten-grads", check=False)
    assert done.returncode != 0
    last = done.output.strip().splitlines()[-1]
    assert f"--{option} needs a GPU in fairseq. Available on the CPU: --precision bf16" in last


@pytest.mark.parametrize("ema_fp32", [False, True])
def test_averaged_weights_keep_the_fingerprint(build_model, ema_fp32):
    model = build_model()
    ema = EMA(model, EMAConfig(store_ema=True, ema_decay=0.75, ema_fp32=ema_fp32))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model.discriminator_head.dense.bias += 4
    ema.step(model)
    after = ema.get_model().state_dict()
    assert torch.equal(after["dictionary_fingerprint"], before["dictionary_fingerprint"])
    bias = "discriminator_head.dense.bias"
    assert torch.allclose(after[bias], before[bias] + 1)
