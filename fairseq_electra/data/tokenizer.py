"""Text to pieces and back: SentencePiece, or BERT's WordPiece.

In: a folder that holds tokenizer_info.json and the tokenizer's own file (a data-bin made by
fairseq-electra prepare-data does). Out: pieces named as in dict.txt. Text never becomes a special
symbol: "<mask>" in a text is punctuation and a word, what is not known is "<unk>".
"""

import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Dict, List, Sequence, Tuple, Type

import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

UNKNOWN = "<unk>"
# The first four are added by fairseq's Dictionary, the last by the tasks that mask.
RESERVED = ("<s>", "<pad>", "</s>", UNKNOWN, "<mask>")
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INFO_FILE = "tokenizer_info.json"
MOST_KNOWN = 5_000_000  # characters of words of which a WordPiece tokenizer knows the pieces
WORD_START = "\u2581"  # SentencePiece's mark of a word's first piece
Span = Tuple[int, int]  # first and past-the-last character of a text


class Tokenizer(ABC):
    """A fixed list of pieces, and the way between text and them.

    `names[i]` is the piece with the tokenizer's own number i, "<unk>" where that is a special
    symbol of the tokenizer. `pieces` are the lines of dict.txt: names without specials.
    """

    kind: str
    file_name: str

    def __init__(self, names: List[str], content: bytes, cased: bool):
        self.names = names
        self.pieces = check_pieces([name for name in names if name != UNKNOWN])
        self.content = content
        self.cased = cased

    @abstractmethod
    def encode_numbers(self, lines: List[str]) -> List[List[int]]:
        """The tokenizer's own numbers of the pieces of each line."""

    @abstractmethod
    def join_words(self, pieces: List[str]) -> str:
        """Text of ordinary pieces."""

    @abstractmethod
    def encode_with_spans(self, text: str) -> Tuple[List[str], List[Span]]:
        """Pieces of a text as `encode` gives them, and which characters of it each stands for.

        White space belongs to no piece. A character that became several pieces belongs to each.
        """

    @abstractmethod
    def begins_word(self, piece: str) -> bool:
        """Whether an ordinary piece stands at the beginning of a word."""

    @abstractmethod
    def spell(self, piece: str) -> str:
        """An ordinary piece as it follows on a word in text, its space before it if it has one."""

    def encode_lines(self, lines: Sequence[str]) -> List[List[str]]:
        """Pieces of each line, [] for a blank one."""
        names = self.names
        return [[names[i] for i in numbers] for numbers in self.encode_numbers(list(lines))]

    def encode(self, text: str) -> List[str]:
        """Pieces of a text, without <s> and </s>."""
        return self.encode_lines([text])[0]

    def decode(self, pieces: Sequence[str]) -> str:
        """Text of pieces; <s>, </s> and <pad> are left out, <unk> and <mask> stay as words."""
        words: List[str] = []
        ordinary: List[str] = []
        for piece in [*pieces, "</s>"]:
            if piece not in RESERVED:
                ordinary.append(piece)
                continue
            words.append(self.join_words(ordinary))
            words.append(piece if piece in (UNKNOWN, "<mask>") else "")
            ordinary = []
        return " ".join(word for word in words if word)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's file, the note on its kind, and dict.txt into folder."""
        info = {"kind": self.kind, "file": self.file_name, "cased": self.cased}
        (folder / self.file_name).write_bytes(self.content)
        (folder / INFO_FILE).write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        # fairseq wants a count; training does not use it, the order gives the numbers.
        lines = "".join(f"{piece} 1\n" for piece in self.pieces)
        (folder / "dict.txt").write_text(lines, encoding="utf-8")


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model; lower case and normal forms are part of the model."""

    kind = "sentencepiece"
    file_name = "sentencepiece.model"

    def __init__(self, content: bytes, cased: bool):
        self.model = sentencepiece.SentencePieceProcessor(model_proto=content)
        names = [
            self.model.id_to_piece(i) if is_ordinary(self.model, i) else UNKNOWN
            for i in range(self.model.get_piece_size())
        ]
        super().__init__(names, content, cased)

    def encode_numbers(self, lines: List[str]) -> List[List[int]]:
        return self.model.encode(list(map(unify_spaces, lines)), out_type=int, num_threads=1)

    def join_words(self, pieces: List[str]) -> str:
        return "".join(pieces).replace(WORD_START, " ").strip()

    def begins_word(self, piece: str) -> bool:
        return piece.startswith(WORD_START)

    def spell(self, piece: str) -> str:
        return piece.replace(WORD_START, " ")

    def encode_with_spans(self, text: str) -> Tuple[List[str], List[Span]]:
        words = [word.span() for word in re.finditer(r"\S+", text)]
        # where each character that SentencePiece sees stands in `text`, and the end of the text
        places = [place for start, end in words for place in range(start, end + 1)]
        seen = unify_spaces(text)
        found = self.model.encode(seen, return_type="offset_mapping")
        spans: List[Span] = []
        last = 0  # end of the piece after this one
        for piece, (start, end) in reversed([*zip(found["pieces"], found["offsets"])]):
            if start == end and piece != WORD_START:
                end = last  # all but the last piece of a character come with nothing
            last = end
            part = seen[start:end]  # with spaces before it, and those after a control character
            start += len(part) - len(part.lstrip())
            end = start + len(part.strip())
            spans.append((places[start], places[end - 1] + 1 if end > start else places[start]))
        return [self.names[number] for number in found["ids"]], spans[::-1]


class WordPieceTokenizer(Tokenizer):
    """BERT's tokenizer: words and punctuation, then the longest pieces of the vocabulary."""

    kind = "wordpiece"
    file_name = "vocab.txt"

    def __init__(self, content: bytes, cased: bool):
        vocabulary = parse_vocabulary(content)
        numbers = {piece: i for i, piece in enumerate(vocabulary)}
        # No special symbols are registered: "[MASK]" in a text must stay text.
        self.model = tokenizers.Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
        self.model.normalizer = normalizers.BertNormalizer(lowercase=not cased)
        self.model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self.decoder = decoders.WordPiece()
        self.known: Dict[str, List[int]] = {}  # numbers of the pieces of a word
        self.known_size = 0  # characters
        names = [UNKNOWN if piece in BERT_SPECIALS else piece for piece in vocabulary]
        super().__init__(names, content, cased)

    def encode_numbers(self, lines: List[str]) -> List[List[int]]:
        # Nothing in BERT's rules looks across a space, so that each word is encoded once only:
        # twice as fast on ordinary text.
        split = [line.split(" ") for line in lines]
        if self.known_size > MOST_KNOWN:
            self.known, self.known_size = {}, 0
        new = list({word for words in split for word in words}.difference(self.known))
        self.known_size += sum(map(len, new))
        encodings = self.model.encode_batch(new)
        self.known.update(zip(new, (encoding.ids for encoding in encodings), strict=True))
        known = self.known
        return [[i for word in words for i in known[word]] for words in split]

    def join_words(self, pieces: List[str]) -> str:
        return self.decoder.decode(pieces)

    def begins_word(self, piece: str) -> bool:
        return not piece.startswith("##")

    def spell(self, piece: str) -> str:
        return self.decoder.decode(["a", piece])[1:]

    def encode_with_spans(self, text: str) -> Tuple[List[str], List[Span]]:
        encoding = self.model.encode(text)
        spans = [(start, end_of_marks(text, end)) for start, end in encoding.offsets]
        return [self.names[number] for number in encoding.ids], spans


def unify_spaces(text: str) -> str:
    """Text with one space for all white space; SentencePiece would take U+0085 for a letter."""
    return " ".join(text.split())


def end_of_marks(text: str, end: int) -> int:
    """The first place from `end` on without a combining mark, which uncased BERT leaves out."""
    while end < len(text) and unicodedata.combining(text[end]):
        end += 1
    return end


def is_ordinary(model: sentencepiece.SentencePieceProcessor, number: int) -> bool:
    """Whether a piece can come out of text."""
    return not (model.is_unknown(number) or model.is_control(number) or model.is_unused(number))


def parse_vocabulary(content: bytes) -> List[str]:
    """Lines of a BERT vocab.txt; ValueError if BERT's special symbols are not among them."""
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from None
    vocabulary = [line.removesuffix("\r") for line in lines]
    missing = [name for name in BERT_SPECIALS if name not in vocabulary]
    if missing:
        raise ValueError(f"it has no {' '.join(missing)}: is it a BERT vocab.txt?")
    return check_pieces(vocabulary)


def check_pieces(pieces: List[str]) -> List[str]:
    """The same pieces; ValueError for what fairseq's dict.txt cannot hold."""
    for piece, count in Counter(pieces).items():
        if count > 1:
            raise ValueError(f"it lists {piece!r} {count} times: remove the duplicates")
        if piece in RESERVED:
            raise ValueError(f"it lists {piece!r}, which fairseq keeps for itself: rename it")
        if piece.split() != [piece]:
            raise ValueError(f"it lists {piece!r}, an empty piece or one with white space")
    return pieces


KINDS = (SentencePieceTokenizer, WordPieceTokenizer)


def load_wordpiece(path: Path, cased: bool = False) -> WordPieceTokenizer:
    """The tokenizer of a BERT vocab.txt; ValueError, naming the file, if it is not one."""
    try:
        return WordPieceTokenizer(path.read_bytes(), cased)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_info(path: Path) -> Tuple[Type[Tokenizer], bool]:
    """Class and case of the tokenizer that tokenizer_info.json describes; ValueError names it."""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    described = info if isinstance(info, dict) else {}
    names = described.get("kind"), described.get("file")
    cls = next((cls for cls in KINDS if (cls.kind, cls.file_name) == names), None)
    if cls is None or not isinstance(described.get("cased"), bool):
        raise ValueError(f"{path} is damaged: {json.dumps(info)[:100]} describes no tokenizer")
    return cls, described["cased"]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer saved in a data-bin; ValueError if there is none, or another dict.txt."""
    folder = Path(folder)
    path = folder / INFO_FILE
    try:
        cls, cased = read_info(path)
        path = folder / cls.file_name
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(
            f"{folder} holds no tokenizer ({path.name} is missing): "
            "name a data-bin made by fairseq-electra prepare-data"
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        tokenizer = cls(content, cased)
    except (ValueError, RuntimeError) as error:  # sentencepiece raises RuntimeError
        raise ValueError(f"{path} is damaged: {error}") from None
    check_dictionary(folder / "dict.txt", tokenizer)
    return tokenizer


def check_dictionary(path: Path, tokenizer: Tokenizer) -> None:
    """ValueError if path exists and does not list the tokenizer's pieces."""
    if path.exists():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 (byte {error.start})") from None
        if [line.rpartition(" ")[0] for line in lines] != tokenizer.pieces:
            raise ValueError(
                f"{path} does not list the pieces of {path.with_name(tokenizer.file_name)}"
            )
