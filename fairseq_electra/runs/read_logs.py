"""Reads the log of one fairseq run: its metrics by update, its configuration, its sizes.

In: what `--log-format json --log-file FILE` writes, or a kept stdout in the json or simple format.
Out: a Log. fairseq prints metrics as rounded text, repeats a line once for every epoch begun, and
starts `wall` at 0 again after a restart; all three are dealt with here.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

LOG_PATTERNS = ("*.jsonl", "*.log")  # searched in a save-dir, in this order

JSON_START = '{"epoch"'
SIMPLE_LINE = re.compile(r"epoch \d+(?P<inner>:\s+\d+ / \d+)?(?: \|)? (?P<rest>.*)")
SIMPLE_SUBSET = re.compile(r"valid on '(\w+)' subset")
SIMPLE_METRIC = re.compile(r"(\w+)[= ](-?\d[\d.]*(?:e[+-]?\d+)?|-?inf|nan)(?=[,\s]|$)")
PARAMETERS = re.compile(r"num\. (?:shared )?model params: ([\d,]+)")
EMBEDDING = re.compile(r"\((embed_\w+)\): \w*Embedding\((\d+), (\d+)")
JUDGING_METRICS = (  # of replaced-token detection, constants while --mlm-updates last
    "sampled_acc",
    "replaced",
    "disc_loss",
    "disc_acc",
    "disc_precision",
    "disc_recall",
    "disc_auc",
    "disc_auc_context",
)


class Record(NamedTuple):
    """One line of metrics; `split` is "inner" for the mean of a logging interval, "train" for
    that of an epoch, otherwise the held-out subset's name."""

    split: str
    update: int
    metrics: Dict[str, float]


@dataclass
class Log:
    """All that one run's log says."""

    path: Path
    config: str = ""  # the configuration as fairseq printed it last
    parameters: Optional[int] = None
    tables: Dict[str, tuple] = field(default_factory=dict)  # embedding name -> (rows, width)
    splits: Dict[str, Dict[int, dict]] = field(default_factory=dict)  # split -> update -> metrics
    seconds: Dict[int, float] = field(default_factory=dict)  # update -> time spent up to it
    notes: List[str] = field(default_factory=list)

    def training(self) -> Dict[int, dict]:
        """Metrics of the logging intervals; of the epochs if no interval was ever finished."""
        return self.splits.get("inner") or self.splits.get("train", {})

    def held_out(self) -> Dict[int, dict]:
        """Metrics of the subset called valid, otherwise of the first held-out subset."""
        subsets = {name: m for name, m in self.splits.items() if name not in ("inner", "train")}
        return subsets.get("valid") or next(iter(subsets.values()), {})

    def updates(self) -> int:
        """The last update that any metric speaks of."""
        return max(max(records) for records in self.splits.values() if records)

    def option(self, section: str, name: str) -> Optional[str]:
        """The configuration's value as text; None if it is not there."""
        return find_option(self.config, section, name)


def find_log(path: Path) -> Path:
    """The log that a save-dir or file stands for.

    Raises:
        SystemExit: if there is none, or more than one to choose from.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise SystemExit(f"{path}: no such file or folder")
    for pattern in LOG_PATTERNS:
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(log.name for log in found)
            raise SystemExit(f"{path}: several logs ({names}): give one of these files")
    raise SystemExit(
        f"{path}: no {' or '.join(LOG_PATTERNS)} in it: train with --log-format json --log-file"
        f" {path / 'train.log'}, or give the file"
    )


def read_log(path: Path) -> Log:
    """Read a log.

    Raises:
        SystemExit: if it holds no metrics.
    """
    log = Log(path)
    builder = LogBuilder(log)
    lines = 0
    with path.open(encoding="utf-8", errors="replace") as text:
        for line in text:
            lines += 1
            builder.add(line)
    if not log.splits:
        raise SystemExit(
            f"{path}: " + (f"no metrics in its {lines} lines" if lines else "an empty log") + ":"
            " the run logged none yet, or not with --log-format json or simple"
        )
    if builder.unreadable:
        log.notes.append(f"{path}: {builder.unreadable} damaged lines were skipped")
    note_nan(log)
    return log


class LogBuilder:
    """Fills a Log line by line, and joins the attempts of a run that was restarted."""

    def __init__(self, log: Log):
        self.log = log
        self.unreadable = 0
        self.starts_attempt = True
        self.last_update = 0
        self.seconds_before = 0.0  # spent by earlier attempts on what was kept of them

    def add(self, line: str) -> None:
        """Take in one line, with its newline if it is finished."""
        if "'common': {" in line:
            self.log.config, self.log.tables, self.starts_attempt = line, {}, True
        elif JSON_START in line or SIMPLE_LINE.search(line):
            self.add_metrics(line)
        elif match := PARAMETERS.search(line):
            self.log.parameters = int(match[1].replace(",", ""))
        elif match := EMBEDDING.search(line):
            self.log.tables.setdefault(match[1], (int(match[2]), int(match[3])))

    def add_metrics(self, line: str) -> None:
        if JSON_START in line:
            record = parse_json_line(line)
            # the last line of a run that still writes is no damage
            self.unreadable += record is None and line.endswith("\n")
        else:
            record = parse_simple_line(line) if line.endswith("\n") else None
        if record is None:
            return
        if self.starts_attempt or record.update < self.last_update:
            self.start_attempt(record.update)
        self.last_update = record.update
        self.log.splits.setdefault(record.split, {})[record.update] = record.metrics
        if "wall" in record.metrics:
            self.log.seconds[record.update] = self.seconds_before + record.metrics["wall"]

    def start_attempt(self, update: int) -> None:
        """Forget what an earlier attempt logged from `update` on: it is trained again."""
        self.starts_attempt = False
        for records in [*self.log.splits.values(), self.log.seconds]:
            for later in [kept for kept in records if kept >= update]:
                del records[later]
        self.seconds_before = max(self.log.seconds.values(), default=0.0)


def parse_json_line(line: str) -> Optional[Record]:
    """Metrics of a json line, whatever stands before them; None if damaged or without an update."""
    try:
        fields = json.loads(line[line.rindex(JSON_START) :])
    except json.JSONDecodeError:
        return None
    counter = next((name for name in fields if name.endswith("num_updates")), None)
    if counter is None:
        return None
    prefix = counter[: -len("num_updates")]
    metrics = {
        name[len(prefix) :]: float(text)
        for name, text in fields.items()
        if name.startswith(prefix) and isinstance(text, (str, int, float))  # no lists, no nulls
    }
    if "num_updates" not in metrics:  # null: of an epoch without an update
        return None
    return Record(prefix.rstrip("_") or "inner", int(metrics["num_updates"]), metrics)


def parse_simple_line(line: str) -> Optional[Record]:
    """The metrics of a line of fairseq's simple format; None if it has no update."""
    match = SIMPLE_LINE.search(line)
    subset = SIMPLE_SUBSET.search(match["rest"])
    metrics = {name: float(text) for name, text in SIMPLE_METRIC.findall(match["rest"])}
    if "num_updates" not in metrics:
        return None
    split = "inner" if match["inner"] else subset[1] if subset else "train"
    return Record(split, int(metrics["num_updates"]), metrics)


def tells(metrics: Dict[str, float], name: str) -> bool:
    """Whether a record has the metric, and its number means something.

    ELECTRA's mlm_loss is above 0 while its first stage lasts, and in the interval that the stage
    ends in; afterwards it is 0. The other way round for clm_loss.
    """
    in_first = metrics.get("mlm_loss", 0) > 0
    if name in ("mlm_loss", "clm_loss") and metrics.get(name) == 0:
        return False
    return name in metrics and not (name in JUDGING_METRICS and in_first)


def note_nan(log: Log) -> None:
    """Note from which update on a loss is not a number."""
    for records in log.splits.values():
        for name in ("loss", "gen_loss", "disc_loss"):
            broken = [u for u, metrics in records.items() if metrics.get(name) != metrics.get(name)]
            if broken:
                log.notes.append(f"{log.path}: {name} is NaN from update {min(broken)} on")
                return


def find_option(config: str, section: str, name: str) -> Optional[str]:
    """The text of an option in fairseq's printed configuration; None if absent or None.

    A section is printed as a dict, or as a Namespace for models without a dataclass.
    """
    match = re.search(rf"\b{name}'?(?:: |=)'?([^,'}})]*)", read_section(config, section))
    return None if match is None or match[1] in ("None", "") else match[1]


def read_section(config: str, section: str) -> str:
    """One section of the printed configuration, from its opening bracket to the closing one."""
    start = config.find(f"'{section}': ")
    if start < 0:
        return ""
    depth = 0
    for position in range(start, len(config)):
        depth += (config[position] in "{([") - (config[position] in "})]")
        if depth == 0 and config[position] in "})]":
            return config[start : position + 1]
    return ""
