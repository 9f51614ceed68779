"""Damage for files: bytes as a disk, a download or a crash leaves them, and values nobody meant.

Every function takes a seeded random.Random, so that a case can be repeated, and says what it did.
"""

import json
import math
import random
from pathlib import Path

import torch

STRANGE = [None, True, -1, 0, 3, 2.5, math.nan, 1e30, 10**30, "", "x", "\ud800", [], {}, [[]]]
STRANGE += ["9" * 5000, "../../etc/passwd"]


def flip(content: bytearray, rng: random.Random) -> str:
    """Other values in one to four bytes."""
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(len(content))] ^= rng.randint(1, 255)
    return "flipped bytes"


def flip_header(content: bytearray, rng: random.Random) -> str:
    content[rng.randrange(min(26, len(content)))] ^= rng.randint(1, 255)
    return "flipped byte in the first 26"


def truncate(content: bytearray, rng: random.Random) -> str:
    del content[rng.randrange(len(content)) :]
    return "truncated"


def extend(content: bytearray, rng: random.Random) -> str:
    content += rng.randbytes(rng.randint(1, 100))
    return "bytes added"


def repeat(content: bytearray, rng: random.Random) -> str:
    """A part twice, as a download that was resumed at the wrong place has it."""
    start, end = sorted(rng.sample(range(len(content) + 1), 2))
    content[end:end] = content[start:end]
    return "a part twice"


def zero(content: bytearray, rng: random.Random) -> str:
    """Zeros to the end, as a file system after a crash has it."""
    start = rng.randrange(len(content))
    content[start:] = bytes(len(content) - start)
    return "zeros to the end"


DAMAGES = (flip, flip_header, truncate, extend, repeat, zero)


def damage_file(path: Path, rng: random.Random) -> str:
    """Damage the bytes of a file that is not empty; how."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(DAMAGES)(content, rng)
    path.write_bytes(content)
    return kind


def list_places(value) -> list:
    """Each place of a tree of dicts and lists, as its container and key."""
    if not isinstance(value, (dict, list)):
        return []
    keys = value if isinstance(value, dict) else range(len(value))
    places = []
    for key in keys:
        places += [(value, key), *list_places(value[key])]
    return places


def estrange(tree, rng: random.Random) -> str:
    """Put a strange value at one place of a tree of dicts and lists, or remove what is there."""
    container, key = rng.choice(list_places(tree))
    if rng.random() < 0.2:
        del container[key]
        return f"{key} removed"
    container[key] = rng.choice(STRANGE)
    return f"{key} = {str(container[key])[:20]!a}"


def damage_json(path: Path, rng: random.Random) -> str:
    """One strange value in a JSON file; how."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    kind = estrange(tree, rng)
    path.write_text(json.dumps(tree), encoding="utf-8")
    return kind


def damage_checkpoint(path: Path, rng: random.Random, parts=("cfg", "model")) -> str:
    """One strange value in a part of a checkpoint that torch reads without complaint; how."""
    state = torch.load(path, weights_only=True)
    tree = {part: dict(state[part]) for part in parts if isinstance(state.get(part), dict)}
    kind = estrange(tree, rng)
    state.update({part: tree.get(part) for part in parts if part in state})
    torch.save(state, path)
    return kind
