"""Questions -> batches of windows: `<s> question </s> passage </s>` with token types 0 and 1."""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from fairseq_electra.data.answer_windows import (
    Passage,
    Window,
    WindowSizes,
    cut_windows,
    encode_passage,
    find_answers,
    to_tokens,
)
from fairseq_electra.data.collating import pad_rows
from fairseq_electra.data.length_dataset import LengthDataset
from fairseq_electra.data.squad import Squad
from fairseq_electra.data.tokenizer import Tokenizer

SPECIALS = 3  # <s>, </s>, </s>


class AnswerDataset(LengthDataset):
    """Every window of every question.

    Args:
        dictionary: fairseq's, of tokens.
        to_learn: leave out questions that cannot be learnt from; `net_input` has the answers then.

    Attributes:
        answers: first and last piece by question's number, None for an unanswerable one; or None.
        queries: tokens of the questions used, by number.
        windows: in the order of the questions, those of one question in the passage's.
        skipped: questions left out because of what is wrong with them.
        num_cut: questions longer than `sizes.max_query_length`.

    Raises:
        ValueError: if most questions cannot be learnt from.
    """

    def __init__(
        self, squad: Squad, tokenizer: Tokenizer, dictionary, sizes: WindowSizes, to_learn: bool
    ):
        self.squad = squad
        self.dictionary = dictionary
        self.max_query_length = sizes.max_query_length
        self.passages: Dict[int, Passage] = {
            question.passage: encode_passage(
                squad.passages[question.passage], tokenizer, dictionary
            )
            for question in squad.questions
        }
        self.answers, self.skipped = find_answers(squad, self.passages) if to_learn else (None, [])
        used = range(len(squad.questions)) if self.answers is None else self.answers
        queries = tokenizer.encode_lines([squad.questions[number].text for number in used])
        self.num_cut = sum(len(pieces) > sizes.max_query_length for pieces in queries)
        self.queries: Dict[int, Tensor] = {
            number: to_tokens(pieces[: sizes.max_query_length], dictionary)
            for number, pieces in zip(used, queries, strict=True)
        }
        self.windows: List[Window] = [
            Window(number, *window) for number in used for window in self.cut(number, sizes)
        ]
        super().__init__(
            [self.passage_start(window.question) + window.length + 1 for window in self.windows]
        )

    def cut(self, number: int, sizes: WindowSizes) -> List[Tuple[int, int]]:
        """Windows of one question's passage."""
        room = sizes.tokens_per_sample - SPECIALS - len(self.queries[number])
        return cut_windows(len(self.passage_of(number).tokens), room, sizes.doc_stride)

    def passage_of(self, number: int) -> Passage:
        """The passage of a question."""
        return self.passages[self.squad.questions[number].passage]

    def passage_start(self, number: int) -> int:
        """Position of the first piece of the passage in the tokens of a question's windows."""
        return len(self.queries[number]) + 2

    def __getitem__(self, index: int) -> Dict:
        window = self.windows[index]
        bos, eos = torch.tensor([self.dictionary.bos()]), torch.tensor([self.dictionary.eos()])
        passage = self.passage_of(window.question).tokens[window.first :][: window.length]
        tokens = torch.cat([bos, self.queries[window.question], eos, passage, eos])
        token_types = torch.zeros_like(tokens)
        token_types[self.passage_start(window.question) :] = 1
        item = {"id": index, "tokens": tokens, "token_types": token_types}
        if self.answers is not None:
            start, end = self.locate_answer(window)
            is_impossible = float(self.squad.questions[window.question].is_impossible)
            item.update(start=start, end=end, is_impossible=is_impossible)
        return item

    def locate_answer(self, window: Window) -> Tuple[int, int]:
        """Positions of the answer's first and last piece in a window's tokens.

        Both are 0, that is `<s>`, where the question has no answer or the window does not have all
        of it, as in the authors' code.
        """
        answer: Optional[Tuple[int, int]] = self.answers[window.question]
        if answer is None:
            return 0, 0
        first, last = answer[0] - window.first, answer[1] - window.first
        if first < 0 or last >= window.length:
            return 0, 0
        shift = self.passage_start(window.question)
        return first + shift, last + shift

    def collater(self, samples: List[Dict]) -> Dict:
        """Pad to the longest window: B windows, T tokens.

        `can_answer` (B, T) is true where an answer may start and end: at `<s>`, which stands for no
        answer, and at token type 1, the passage and its `</s>` (authors' code).
        """
        if not samples:
            return {}
        token_types = pad_rows([sample["token_types"] for sample in samples])
        can_answer = token_types.eq(1)
        can_answer[:, 0] = True
        tokens = pad_rows([sample["tokens"] for sample in samples], self.dictionary.pad())
        net_input = {"src_tokens": tokens, "token_types": token_types, "can_answer": can_answer}
        batch = {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "net_input": net_input,
            "nsentences": len(samples),
            "ntokens": sum(len(sample["tokens"]) for sample in samples),
        }
        if self.answers is not None:
            net_input["start_positions"] = torch.tensor([sample["start"] for sample in samples])
            batch["end_positions"] = torch.tensor([sample["end"] for sample in samples])
            batch["is_impossible"] = torch.tensor([sample["is_impossible"] for sample in samples])
        return batch

    def describe(self) -> str:
        """How many questions and windows, and what is special about them."""
        used = [self.squad.questions[number] for number in self.queries]
        impossible = sum(question.is_impossible for question in used)
        answerless = 0
        if self.answers is not None:
            answerless = sum(
                self.answers[window.question] is not None and self.locate_answer(window) == (0, 0)
                for window in self.windows
            )
        notes = [
            f"{number} {what}"
            for number, what in (
                (impossible, "questions are impossible"),
                (answerless, "windows without their question's answer"),
                (self.num_cut, f"questions cut to {self.max_query_length} tokens"),
            )
            if number
        ]
        return ", ".join([f"{len(used)} questions, {len(self)} windows", *notes])
