"""Print how many examples a split has: `python -m ... TASK_BIN/input0/train`, for finetune.sh.

Ends with the file's name if the split is damaged, empty or not there.
"""

import sys
from pathlib import Path

from fairseq_electra.data.data_files import check_data, read_index

PREPARE = "make it with fairseq-electra prepare-task"


def count_examples(split: str) -> int:
    """Entries of `split`.idx; FileNotFoundError or ValueError if there is nothing to read."""
    for path in (Path(split + ".idx"), Path(split + ".bin")):
        if not path.is_file():
            raise FileNotFoundError(f"no {path.name} in {path.parent}; {PREPARE}")
    check_data(split)
    number = len(read_index(Path(split + ".idx")).sizes)
    if number == 0:
        raise ValueError(f"{split}.idx has no examples; {PREPARE}")
    return number


if __name__ == "__main__":
    try:
        print(count_examples(sys.argv[1]))
    except (ValueError, OSError) as error:
        raise SystemExit(f"finetune.sh: {error}") from None
