"""Memory, open files and disk of a running training over time: does anything grow?

    fairseq-electra watch PID SAVE_DIR --out WATCHED.csv [--every 30]

reads /proc (Linux) for PID and all processes it started until PID ends, adds a row every so many
seconds, and prints first, median and last of each column. Memory is proportional set size, so that
pages which loader workers share count once.
"""

import argparse
import csv
import statistics
import time
from pathlib import Path
from typing import List

COLUMNS = ("seconds", "processes", "memory_mib", "open_files", "threads", "log_kib", "saved_mib")


def list_processes(pid: int) -> list:
    """PID and its descendants, as folders of /proc; those that have ended are left out."""
    folder = Path("/proc") / str(pid)
    found = [folder]
    for children in folder.glob("task/*/children"):
        for child in read(children).split():
            found += list_processes(int(child))
    return found


def read(path: Path) -> str:
    """A file of /proc; empty if its process has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def count(folder: Path) -> int:
    """Entries of a folder of /proc; 0 if its process has ended."""
    try:
        return sum(1 for _ in folder.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return 0


def memory_kib(folder: Path) -> int:
    """Proportional set size of a process."""
    lines = read(folder / "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def measure(pid: int, save_dir: Path) -> dict:
    """A row: all COLUMNS but the time."""
    processes = list_processes(pid)
    sizes = {path: path.stat().st_size for path in save_dir.glob("*") if path.is_file()}
    log = sum(size for path, size in sizes.items() if path.suffix == ".log")
    return {
        "processes": len(processes),
        "memory_mib": round(sum(map(memory_kib, processes)) / 1024, 1),
        "open_files": sum(count(folder / "fd") for folder in processes),
        "threads": sum(count(folder / "task") for folder in processes),
        "log_kib": round(log / 1024, 1),
        "saved_mib": round((sum(sizes.values()) - log) / 2**20, 1),
    }


def is_running(pid: int) -> bool:
    """Whether the process is there and has not ended (a zombie has)."""
    state = read(Path("/proc") / str(pid) / "stat").rpartition(")")[2].split()
    return bool(state) and state[0] != "Z"


def watch(pid: int, save_dir: Path, out: Path, every: float) -> list:
    """Write a row every so many seconds until the process ends; returns the rows."""
    rows, started = [], time.monotonic()
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        while is_running(pid):
            rows.append({"seconds": round(time.monotonic() - started), **measure(pid, save_dir)})
            writer.writerow(rows[-1])
            file.flush()
            time.sleep(every)
    return rows


def summarize(rows: list) -> str:
    """First, median of the second and of the last quarter, and last of each column."""
    quarter = len(rows) // 4
    parts = rows[quarter : 2 * quarter] or rows, rows[-quarter:] or rows
    lines = ["| | first | 2nd quarter | last quarter | last |", "|---|---|---|---|---|"]
    for name in COLUMNS[1:]:
        medians = [statistics.median(row[name] for row in part) for part in parts]
        values = [rows[0][name], *medians, rows[-1][name]]
        lines.append(f"| {name} | " + " | ".join(f"{value:g}" for value in values) + " |")
    return "\n".join(lines)


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pid", type=int)
    parser.add_argument("save_dir", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="CSV file, a row a measurement")
    parser.add_argument("--every", type=float, default=30, help="seconds between two rows")
    args = parser.parse_args(argv)
    if not is_running(args.pid):
        parser.error(f"no process {args.pid} is running")
    if not args.save_dir.is_dir():
        parser.error(f"no folder '{args.save_dir}'")
    return args


def run(args: argparse.Namespace) -> None:
    print(summarize(watch(args.pid, args.save_dir, args.out, args.every)))
