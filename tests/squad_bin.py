"""A folder for --task electra_answers, with answers that follow from the words of the question."""

import json
import random
from pathlib import Path
from typing import Dict, List

from fairseq.data import Dictionary

from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer

MARKS = ["red", "blue", "green"]
WORDS = [*MARKS, "what", "is", "?", "the", *(f"w{n}" for n in range(10))]
VOCABULARY = [*BERT_SPECIALS, *WORDS, *(f"##{n}" for n in range(10))]


def make_tokenizer() -> WordPieceTokenizer:
    return WordPieceTokenizer("\n".join(VOCABULARY).encode(), cased=False)


def make_dictionary(tokenizer) -> Dictionary:
    """What tasks read from dict.txt."""
    dictionary = Dictionary()
    for piece in [*tokenizer.pieces, "<mask>"]:
        dictionary.add_symbol(piece)
    return dictionary


def make_squad(number: int, seed: int, version: str = "1.1", words: int = 12) -> Dict:
    """SQuAD's JSON. "What is red?" asks for the word after the passage's only "Red".

    In version 2.0 every third question asks for a mark that is not there.
    """
    rng = random.Random(seed)
    paragraphs = []
    for index in range(number):
        mark = rng.choice(MARKS)
        before = [f"W{rng.randrange(20)}" for _ in range(rng.randrange(words))]
        answer = f"w{rng.randrange(20)}"
        after = [f"w{rng.randrange(20)}" for _ in range(rng.randrange(1, words))]
        context = " ".join([*before, mark.capitalize(), answer, *after])
        answers = [{"text": answer, "answer_start": len(" ".join([*before, mark])) + 1}]
        qa = {"id": f"q{seed}-{index}", "question": f"What is {mark}?", "answers": answers}
        if version == "v2.0":
            qa["is_impossible"] = index % 3 == 0
        if qa.get("is_impossible"):
            other = MARKS[(MARKS.index(mark) + 1) % len(MARKS)]
            qa.update(question=f"What is {other}?", answers=[])
        if not before:
            answers[0]["answer_start"] = len(mark) + 1
        paragraphs.append({"context": context, "qas": [qa]})
    return {"version": version, "data": [{"title": "words", "paragraphs": paragraphs}]}


def list_qas(squad: Dict) -> List[Dict]:
    """All questions of the JSON."""
    return [qa for article in squad["data"] for each in article["paragraphs"] for qa in each["qas"]]


def make_squad_bin(
    folder: Path, version: str = "1.1", train: int = 128, valid: int = 24, words: int = 12
) -> Path:
    """What scripts/prepare_squad.sh makes."""
    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer().save(folder)
    for seed, (split, number) in enumerate((("train", train), ("valid", valid))):
        content = json.dumps(make_squad(number, seed, version, words))
        (folder / f"{split}.json").write_text(content, encoding="utf-8")
    return folder
