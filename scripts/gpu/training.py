"""fairseq-train itself: tokens a second in its log, and what it learns, with two starts.

Both trainings see the same sentences; they are compared after as many updates as both made.
"""

import json
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Optional

from scripts.benchmark.contenders import Setting
from scripts.benchmark.pipeline import write_data_bin
from scripts.gpu.common import make_setting, parse_args, write

SECONDS = {"cuda": 60, "cpu": 6}  # of each, after its first line of the log
RANDOM_TOKENS = {"cuda": 20_000_000, "cpu": 20_000}
WARMUP, UPDATES = 500, 10_000  # a schedule for a minute, not the paper's
SHOWN = ("gen_loss", "disc_loss", "disc_auc")
INTERVAL = {"cuda": 50, "cpu": 2}
STARTS = {"plain": (), "--weight-init local": ("--weight-init", "local")}


def make_command(setting: Setting, data: Path, save_dir: Path) -> List[str]:
    """fairseq-train with the recipe of the setting's size, as pretrain.sh runs it."""
    on_gpu = setting.device.type == "cuda"
    recipe = [sys.executable, "-m", "fairseq_electra", "recipe", setting.size, "--data", data]
    recipe += ["--save-dir", save_dir, "--gpus", int(on_gpu), "--", "--warmup-updates", WARMUP]
    recipe += ["--max-update", UPDATES, "--log-interval", INTERVAL[setting.device.type]]
    recipe += ["--no-save", "--disable-validation", "--log-format", "json"]
    if not on_gpu:
        recipe += ["--num-workers", 0]
    done = subprocess.run(list(map(str, recipe)), capture_output=True, text=True, check=True)
    return [
        sys.executable,
        "-m",
        "fairseq_cli.train",
        *shlex.split(done.stdout.replace("\\\n", " "))[1:],
    ]


def train(command: List[str], seconds: float, log: Path) -> List[Dict]:
    """The lines of progress of a training that is stopped so many seconds after its first one."""
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: List[Dict] = []
        start: Optional[float] = None
        for line in process.stdout:
            output.write(line)
            found = re.search(r"\| train_inner \| (\{.*\})", line)
            if not found:
                continue
            lines.append({k: float(v) for k, v in json.loads(found[1]).items() if v is not None})
            start = lines[-1]["wall"] if start is None else start
            if lines[-1]["wall"] - start >= seconds:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
    if len(lines) < 2:
        raise SystemExit(f"fairseq-train made no progress:\n{log.read_text('utf-8')[-2000:]}")
    return lines


def describe(lines: List[Dict], update: float) -> Dict:
    """Tokens a second, the median over lines but the first; losses at an update."""
    (at,) = (line for line in lines if line["num_updates"] == update)
    return {
        "tokens_per_second": statistics.median(line["wps"] for line in lines[1:]),
        "updates": lines[-1]["num_updates"],
        "compared_at": update,
        **{name: at[name] for name in SHOWN if name in at},
    }


def main() -> None:
    args = parse_args()
    setting = make_setting(args.device, 0)
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or write_data_bin(Path(folder), setting, RANDOM_TOKENS[args.device.type])
        runs: Dict[str, List[Dict]] = {}
        for name, options in STARTS.items():
            command = [*make_command(setting, data, Path(folder) / "save"), *options]
            log = args.out / f"training-{len(runs)}.log"
            runs[name] = train(command, SECONDS[args.device.type], log)
            common = set.intersection(*({x["num_updates"] for x in run} for run in runs.values()))
            result = {each: describe(run, max(common)) for each, run in runs.items()}
            write(args.out / "training.json", {"data": str(args.data or "random"), "runs": result})


if __name__ == "__main__":
    main()
