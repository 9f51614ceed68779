"""Tokenizer files for Hugging Face's AutoTokenizer from ours, and ours from theirs.

WordPiece keeps the order of vocab.txt. SentencePiece becomes `<unk>`, the pieces in the model's
order, then the other specials: those are no pieces of the Unigram model, so that text cannot match
them. Data without a tokenizer is words between white space.
"""

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from fairseq.data import Dictionary
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Pipeline

from fairseq_electra.conversion.hf_folder import read_json
from fairseq_electra.conversion.vocabulary import BERT_NAMES, FAIRSEQ_SPECIALS
from fairseq_electra.data.tokenizer import (
    UNKNOWN,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    is_ordinary,
    parse_vocabulary,
)

ROLES = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": UNKNOWN, "mask": "<mask>"}
PIECE_FILES = ("sentencepiece.model", "spiece.model")
# What tokenizer_config.json says of BERT's way to split text, or nothing; Japanese BERTs differ.
BERT_SPLITTING = {
    "do_basic_tokenize": True,
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "word_tokenizer_type": "basic",
    "subword_tokenizer_type": "wordpiece",
}
UNIGRAM = 1  # TrainerSpec.model_type
SPACES = "".join(char for char in map(chr, range(sys.maxunicode + 1)) if char.isspace())
MARKS = "[\\p{M}\\p{Cf}\uff9e\uff9f\U0001f3fb-\U0001f3ff]"  # continue a character
APART = "\x01"


class Foreign(NamedTuple):
    """A foreign vocabulary: its entries in order, and our tokenizer if it is one we have."""

    words: List[str]
    tokenizer: Optional[Tokenizer]


# --- ours to Hugging Face's ---


def list_words(tokenizer: Optional[Tokenizer], dictionary: Dictionary) -> List[str]:
    """The entries in the order that they get at Hugging Face."""
    if tokenizer is None:
        return list(dictionary.symbols)
    if isinstance(tokenizer, WordPieceTokenizer):
        return parse_vocabulary(tokenizer.content)
    others = [name for name in FAIRSEQ_SPECIALS if name != UNKNOWN]
    return [UNKNOWN, *tokenizer.pieces, *others]


def write_tokenizer(
    folder: Path, tokenizer: Optional[Tokenizer], words: List[str], max_positions: int
) -> None:
    """Write tokenizer.json, tokenizer_config.json and the file they were made from."""
    specials = name_specials(words)
    pipeline = build_pipeline(tokenizer, words)
    pipeline.add_special_tokens([AddedToken(name, special=True) for name in specials.values()])
    numbers = {word: number for number, word in enumerate(words)}
    add_frame(pipeline, specials, numbers)
    if pipeline.get_vocab() != numbers:
        raise ValueError("the tokenizer's vocabulary cannot be written in tokenizer.json")
    pipeline.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "model_max_length": max_positions,
        "do_lower_case": tokenizer is not None and not tokenizer.cased,
        # "[MASK]" in a text is punctuation and a word here
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        **{f"{role}_token": name for role, name in specials.items()},
    }
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    if tokenizer is not None:
        (folder / tokenizer.file_name).write_bytes(tokenizer.content)


def name_specials(words: List[str]) -> Dict[str, str]:
    """The specials' names in a list, by role."""
    names = {ours: theirs for theirs, ours in BERT_NAMES.items()} if "[MASK]" in words else {}
    return {role: names.get(name, name) for role, name in ROLES.items()}


def build_pipeline(tokenizer: Optional[Tokenizer], words: List[str]) -> Pipeline:
    """Text -> pieces, without specials."""
    if tokenizer is None:
        numbers = {word: number for number, word in enumerate(words)}
        pipeline = Pipeline(models.WordLevel(numbers, unk_token=UNKNOWN))
        pipeline.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return pipeline
    if isinstance(tokenizer, WordPieceTokenizer):
        pipeline = Pipeline.from_str(tokenizer.model.to_str())
        pipeline.decoder = decoders.WordPiece()
        return pipeline
    return build_unigram(tokenizer)


def build_unigram(tokenizer: SentencePieceTokenizer) -> Pipeline:
    """A Unigram model with the pieces, scores and normal form of a SentencePiece model.

    Raises:
        ValueError: if the model is of another type or has pieces that text always becomes.
    """
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError:
        raise ValueError("protobuf is not installed: pip install '.[hf]'") from None
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.content)
    special = {piece.type for piece in proto.pieces} & {4, 6}  # user-defined, byte
    spec = proto.normalizer_spec
    plain = spec.add_dummy_prefix and spec.remove_extra_whitespaces and spec.escape_whitespaces
    if proto.trainer_spec.model_type != UNIGRAM or special or not plain:
        raise ValueError(
            "its SentencePiece model is not a plain unigram model (BPE, bytes, user-defined "
            "pieces and unusual white space have no exact equivalent)"
        )
    model = tokenizer.model
    pieces = [
        (piece.piece, piece.score)
        for number, piece in enumerate(proto.pieces)
        if is_ordinary(model, number)
    ]
    # a score as bad as the worst keeps <unk> from being chosen, and the penalty for it the same
    worst = min(score for _, score in pieces)
    pipeline = Pipeline(models.Unigram([(UNKNOWN, worst), *pieces], unk_id=0))
    pipeline.normalizer = normalizers.Sequence(list_normalizers(spec.precompiled_charsmap))
    pipeline.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    pipeline.decoder = decoders.Metaspace(prepend_scheme="always")
    return pipeline


def list_normalizers(charsmap: bytes) -> List[normalizers.Normalizer]:
    """White space as `unify_spaces` has it, SentencePiece's characters, single spaces.

    SentencePiece maps the longest known string at each character. Precompiled maps a character
    with its combining marks, and loses the marks where it knows the bare character only. So what
    can be composed is, and a control character keeps the other marks apart.
    """
    start = [normalizers.Replace(Regex(f"[{SPACES}]+"), " ")]
    single = [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    if not charsmap:
        return [*start, *single]
    apart = [normalizers.NFC(), normalizers.Replace(Regex(f"(?={MARKS})"), APART)]
    together = normalizers.Replace(APART, "")
    return [*start, *apart, normalizers.Precompiled(charsmap), together, *single]


def add_frame(pipeline: Pipeline, specials: Dict[str, str], numbers: Dict[str, int]) -> None:
    """Put `<s>` and `</s>` around one or two texts, token types 0 and 1."""
    cls, sep = specials["cls"], specials["sep"]
    pipeline.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(name, numbers[name]) for name in (cls, sep)],
    )


# --- Hugging Face's to ours ---


def read_foreign(folder: Path) -> Foreign:
    """The vocabulary of a folder.

    Raises:
        ValueError: if there is none, or none that we can use.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            return read_pipeline(folder)
        if (folder / "vocab.txt").is_file():
            check_splitting(folder)
            return read_wordpiece((folder / "vocab.txt").read_bytes(), is_cased(folder))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    raise ValueError(f"{folder} has neither tokenizer.json nor vocab.txt")


def read_wordpiece(content: bytes, cased: bool) -> Foreign:
    """The vocabulary of a BERT vocab.txt."""
    return Foreign(parse_vocabulary(content), WordPieceTokenizer(content, cased))


def read_tokenizer_config(folder: Path) -> Dict[str, Any]:
    """tokenizer_config.json, or nothing."""
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def is_cased(folder: Path) -> bool:
    """What tokenizer_config.json says; BERT's default is lower case."""
    return not read_tokenizer_config(folder).get("do_lower_case", True)


def check_splitting(folder: Path) -> None:
    """ValueError if tokenizer_config.json has a vocab.txt used in another way than BERT's."""
    config = read_tokenizer_config(folder)
    for name, value in BERT_SPLITTING.items():
        if config.get(name, value) != value:
            raise ValueError(f"tokenizer_config.json: {name} is {config[name]}, not {value}")


def check_case(folder: Path, cased: bool) -> None:
    """ValueError if tokenizer_config.json, which transformers believes, says another case."""
    said = read_tokenizer_config(folder).get("do_lower_case")
    if said is not None and bool(said) == cased:
        raise ValueError(
            f"tokenizer.json has lowercase {not cased}, tokenizer_config.json has do_lower_case "
            f"{said}: change the one that is wrong"
        )


def read_pipeline(folder: Path) -> Foreign:
    """The vocabulary of a tokenizer.json."""
    content = read_json(folder / "tokenizer.json")
    words = list_pipeline_words(content)
    kind = content["model"].get("type")
    if kind == "WordPiece":
        check_normalizer(content.get("normalizer") or {})
        cased = not content["normalizer"].get("lowercase", True)
        check_case(folder, cased)
        return read_wordpiece(("\n".join(words) + "\n").encode(), cased)
    if kind == "WordLevel":
        return Foreign(words, None)
    files = [folder / name for name in PIECE_FILES if (folder / name).is_file()]
    if kind != "Unigram" or not files:
        needs = " without sentencepiece.model" if kind == "Unigram" else ""
        raise ValueError(f"a {kind} tokenizer{needs} cannot be converted")
    return Foreign(words, SentencePieceTokenizer(files[0].read_bytes(), is_cased(folder)))


def list_pipeline_words(content: Dict[str, Any]) -> List[str]:
    """Entries of a tokenizer.json in order; ValueError if their numbers have gaps."""
    try:
        vocabulary = content["model"]["vocab"]
        if isinstance(vocabulary, list):
            vocabulary = {piece: number for number, (piece, _) in enumerate(vocabulary)}
        added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
        numbers = {**vocabulary, **added}
        words = sorted(numbers, key=numbers.__getitem__)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"tokenizer.json is damaged: {error!r}") from None
    if [numbers[word] for word in words] != list(range(len(words))):
        raise ValueError("the numbers in tokenizer.json have gaps")
    return words


def check_normalizer(normalizer: Dict[str, Any]) -> None:
    """ValueError unless a WordPiece tokenizer treats characters as BERT's does."""
    usual = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    usual["strip_accents"] = None
    for name, value in usual.items():
        if normalizer.get(name, value) != value or "type" not in normalizer:
            raise ValueError(f"tokenizer.json: {name} is {normalizer.get(name)}, not {value}")
