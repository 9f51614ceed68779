"""scripts/sizes.sh fits the paper's batch to the GPUs of a machine; a stand-in says what it has."""

import subprocess
from pathlib import Path

import pytest

SIZES = Path(__file__).parents[2] / "scripts" / "sizes.sh"


@pytest.fixture
def fit_batch(tmp_path):
    """A function: what a device takes, how often, and what is told."""

    def fit(size: str, gpus: int, gpu_mb: int, micro_batch="", call="fit_batch", precision="bf16"):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\necho {gpus} {precision} {gpu_mb}\n")
        python.chmod(0o755)
        script = f'set -euo pipefail; source "{SIZES}"; {call}; echo "$DEVICE_BATCH $UPDATE_FREQ"'
        done = subprocess.run(
            ["bash", "-c", script],
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHON": str(python),
                "ROOT": str(tmp_path),
                "SIZE": size,
                "MICRO_BATCH": micro_batch,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        device_batch, update_freq = done.stdout.split()
        return int(device_batch), int(update_freq), done.stderr

    return fit


@pytest.mark.parametrize(
    ("size", "gpus", "gpu_mb", "micro_batch", "wanted"),
    [
        ("small", 0, 0, "", (128, 1)),
        ("base", 0, 0, "", (256, 1)),
        ("small", 1, 80_000, "", (128, 1)),
        ("base", 1, 81_000, "", (32, 8)),  # 63 fit
        ("base", 8, 81_000, "", (32, 1)),
        ("large", 8, 81_000, "", (16, 16)),  # 23 fit
        ("small", 8, 80_000, "", (16, 1)),
        ("small", 1, 2_000, "", (32, 4)),  # 48 fit
        ("base", 2, 16_000, "", (8, 16)),  # 12 fit
        ("large", 8, 40_000, "", (8, 32)),  # 11 fit
        ("small", 2, 80_000, "16", (16, 4)),
    ],
)
def test_the_papers_batch(fit_batch, size, gpus, gpu_mb, micro_batch, wanted):
    assert fit_batch(size, gpus, gpu_mb, micro_batch) == (*wanted, "")


@pytest.mark.parametrize(
    ("gpus", "gpu_mb", "micro_batch", "wanted", "total"),
    [
        (3, 80_000, "", (43, 1), 129),
        (5, 80_000, "", (26, 1), 130),
        (6, 80_000, "", (21, 1), 126),
        (7, 80_000, "", (18, 1), 126),
        (3, 500, "", (11, 4), 132),  # 12 of 43 fit, a prime
        (200, 80_000, "", (1, 1), 200),
        (1, 80_000, "5", (5, 26), 130),
        (1, 80_000, "300", (300, 1), 300),
    ],
)
def test_devices_that_do_not_divide_it(fit_batch, gpus, gpu_mb, micro_batch, wanted, total):
    *fitted, told = fit_batch("small", gpus, gpu_mb, micro_batch)
    assert tuple(fitted) == wanted
    product = f"{gpus} device(s) x {wanted[0]} x {wanted[1]}"
    assert told == f"a batch of {total} sequences for 128: {product}\n"


@pytest.mark.parametrize("gpus", [3, 5, 6, 7])
def test_fine_tuning_which_uses_one_gpu_is_told_nothing(fit_batch, gpus):
    assert fit_batch("small", gpus, 80_000, call="DEVICE_BATCH=1 UPDATE_FREQ=1") == (1, 1, "")


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_the_precision_is_the_machines(fit_batch, precision):
    show = f'fit_batch; test "$PRECISION" = {precision}'
    assert fit_batch("small", 1, 16_000, call=show, precision=precision) == (128, 1, "")


@pytest.mark.parametrize("value", ["0", "-4", "abc", "08", "1.5", "", "1000000000", "1 2"])
def test_what_is_no_count_is_refused_by_name(fit_batch, value):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        fit_batch("tiny", 0, 0, call=f'check_count BATCH "{value}"')
    message = f"BATCH must be a whole number from 1 on, not '{value}'\n"
    assert (refused.value.returncode, refused.value.stderr) == (2, message)
