"""check_gpu.sh: a step that fails or hangs costs the others nothing, and the table says which."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from commands import wait_for
from scripts.benchmark.run import list_peak_dtypes
from scripts.gpu.common import choose_batch
from scripts.gpu.run import Step, list_steps, parse_args, run_steps

ENDED = """
import os, pathlib, subprocess, sys
child = subprocess.Popen(["sleep", "600"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
child.wait()
"""
WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_what_fails_or_hangs_costs_the_others_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.gpu.run.LEAST_SECONDS", 0.1)
    machine = {"device": "a card", "copy": 2e12, "peaks": {"bf16": 8e14}}
    steps = [
        Step("machine", python(WRITE, tmp_path / "machine.json", json.dumps(machine)), 1000),
        Step("speed", python("print('a reason'); raise SystemExit(3)"), 1000),
        Step("profile", python(ENDED, tmp_path / "child"), 1),
        Step("training", python("print('last')"), 1000),
    ]
    states = run_steps(steps, 600, tmp_path, dict(os.environ))
    assert [state["state"] for state in states.values()] == [
        *("ok", "failed (3)", "out of time", "ok")
    ]
    assert (tmp_path / "training.log").read_text() == "last\n"
    report = (tmp_path / "report.md").read_text()
    assert "speed: failed (3)" in report and "    a reason" in report
    assert "profile: out of time" in report
    assert "matrix product bf16 800 TFLOP/s" in report and "copy 2,000 GB/s" in report
    # what the step that hung had started is ended too
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and is_running(child):
        time.sleep(0.05)
    assert not is_running(child)


def test_what_runs_ends_with_it(tmp_path, monkeypatch):
    """After Ctrl-C: the GPU is to be free."""

    def interrupt(process, timeout):
        child = tmp_path / "child"
        wait_for(lambda: (child.is_file() and child.read_text()) or None, timeout=60)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_steps([Step("speed", python(ENDED, tmp_path / "child"), 1)], 600, tmp_path, {})
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and is_running(child):
        time.sleep(0.05)
    assert not is_running(child)


def is_running(pid) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_batch_is_what_should_fit():
    """2 bytes of weights, 1 of each sequence, of 100 of which 80 may be taken."""
    assert choose_batch(10, 18, 100, most=1024) == 64
    assert choose_batch(10, 18, 100, most=32) == 32
    assert choose_batch(90, 170, 100, most=1024) == 16


def test_the_table_has_what_there_is(tmp_path):
    rows = {
        "rows": [
            {
                "setting": "small@128, batch 128",
                "title": "ELECTRA",
                "tokens_per_second": 1234567.0,
                "share_of_peak": 0.41,
                "flops_per_second": 3.2e14,
                "step_bytes": 2**31,
            },
            {"setting": "base@512, batch 256", "title": "ELECTRA", "note": "OutOfMemory"},
        ],
        "optimizers": [
            {"name": "torch", "milliseconds": 1.5, "times_the_copy": 1.1},
            {"name": "apex", "note": "not run: not installed"},
        ],
    }
    printed = [
        *("t.py::test_a PASSED [ 33%]", "t.py::test_b[0 - 1] FAILED [ 66%]"),
        *("t.py::test_c SKIPPED (needs Apex) [100%]", "FAILED t.py::test_b[0 - 1] - no < 1"),
        "SKIPPED [1] t.py:3: needs Apex",
    ]
    tests = Step("tests", python(f"print({chr(10).join(printed)!r})"), 1)
    speed = Step("speed", python(WRITE, tmp_path / "speed.json", json.dumps(rows)), 1)
    (tmp_path / "profile.json").write_text('{"rows": "of an earlier run"}')
    steps = [tests, speed, Step("profile", python("raise SystemExit(1)"), 1)]
    run_steps(steps, 600, tmp_path, dict(os.environ))
    report = (tmp_path / "report.md").read_text()
    assert "; 1 passed\n    failed: test_b[0 - 1]: no < 1\n    skipped [1] needs Apex" in report
    assert "earlier run" not in report
    assert "| ELECTRA | small@128, batch 128 | 1,234,567 | 41% | 320 | 2.0 GiB |" in report
    assert "| ELECTRA | base@512, batch 256 | OutOfMemory |" in report
    assert "| torch | 1.50 | 1.10 |" in report and "| apex | not run: not installed |" in report


def test_its_arguments(tmp_path, capsys):
    (tmp_path / "dict.txt").write_text("a 1\n")
    args = parse_args(["--device", "cpu", "--data", str(tmp_path), "--steps", "speed", "training"])
    assert [step.name for step in list_steps(args)] == ["speed", "training"]
    wrong = [["--device", "cpu", "--minutes", "0"], ["--device", "cpu", "--data", "nowhere"]]
    wrong += [] if torch.cuda.is_available() else [[]]
    for argv in wrong:
        with pytest.raises(SystemExit):
            parse_args(argv)
    errors = capsys.readouterr().err
    assert "--minutes must be above 0" in errors and "no dict.txt there" in errors


@pytest.mark.campaign
def test_all_steps_on_a_cpu(tmp_path, run_command):
    """At a tiny size; on a machine without a GPU this is what can be tried of it."""
    run_command(
        *(sys.executable, "scripts/gpu", "--device", "cpu", "--minutes", "60"),
        *("--out", tmp_path, "--steps", "machine", "speed", "profile", "training"),
        timeout=3600,
    )
    results = {
        name: json.loads((tmp_path / f"{name}.json").read_text())
        for name in ("machine", "speed", "profile", "training")
    }
    assert set(results["machine"]["peaks"]) == set(list_peak_dtypes(torch.device("cpu")))
    assert all(row["tokens_per_second"] > 0 for row in results["speed"]["rows"])
    assert all(len(row["top"]) == 10 for row in results["profile"]["rows"])
    assert set(results["training"]["runs"]) == {"plain", "--weight-init local"}
