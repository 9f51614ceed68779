"""scripts/watch_run.py on a process that grows when it is told to."""

import csv
import subprocess
import sys

import pytest

from fairseq_electra.runs.watch_run import measure, summarize
from tiny import ROOT

SCRIPT = ROOT / "scripts/watch_run.py"
GROWING = """
import sys
kept = []
print("started", flush=True)
for line in sys.stdin:
    for step in range(20):
        kept.append(open(sys.argv[1] + f"/{step}.pt", "wb"))
        kept[-1].write(bytes(100_000)); kept[-1].flush()
        kept.append(b"x" * 2**20)
    print("grown", flush=True)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
print("started", flush=True)
sys.stdin.readline()
child.communicate()
"""


@pytest.fixture
def start():
    """A function that starts Python code with pipes; what it started is ended after the test."""
    started = []

    def start(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_what_grows_is_seen(tmp_path, start):
    process = start(GROWING, tmp_path)
    assert process.stdout.readline() == "started\n"  # Python has closed what it read to start
    before = measure(process.pid, tmp_path)
    process.stdin.write("grow\n")
    process.stdin.flush()
    assert process.stdout.readline() == "grown\n"
    after = measure(process.pid, tmp_path)
    assert before["saved_mib"] == 0
    assert after["saved_mib"] == round(20 * 100_000 / 2**20, 1)
    assert after["open_files"] >= before["open_files"] + 20
    assert after["memory_mib"] > before["memory_mib"] + 15


def test_child_processes_are_counted(tmp_path, start):
    process = start(PARENT)
    assert process.stdout.readline() == "started\n"
    assert measure(process.pid, tmp_path)["processes"] == 2


def test_a_run_is_watched_to_its_end(tmp_path, start):
    process, out = start(PARENT), tmp_path / "rows.csv"
    command = [sys.executable, SCRIPT, str(process.pid), tmp_path, "--out", out, "--every", "0.01"]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not out.exists() or len(out.read_text().splitlines()) < 4:
        assert watching.poll() is None
    process.communicate("\n")
    printed, _ = watching.communicate()
    assert watching.returncode == 0
    with out.open() as file:
        last = list(csv.DictReader(file))[-1]
    assert f"| {float(last['log_kib']):g} |" in printed


def test_the_summary_compares_quarters():
    names = ("processes", "memory_mib", "open_files", "threads", "log_kib", "saved_mib")
    rows = [dict.fromkeys(names, number) for number in range(8)]
    assert "| memory_mib | 0 | 2.5 | 6.5 | 7 |" in summarize(rows)


def test_wrong_arguments_are_named(tmp_path):
    command = [sys.executable, SCRIPT, str(2**22 + 1), tmp_path, "--out", tmp_path / "rows.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no process 4194305 is running" in done.stderr
