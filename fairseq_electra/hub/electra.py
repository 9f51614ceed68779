"""Electra: a trained model that is asked in words; each answer is made in a module of its subject.

Texts go in one by one (a str), as a list, which gives a list, or as any other iterable, also a file
of any length, which gives an iterator. Long texts are read in windows. The answers do not depend on
what else is in a batch.
"""

from functools import cached_property
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from fairseq_electra.hub.masks import Pieces, list_pieces
from fairseq_electra.hub.model import HubModel
from fairseq_electra.hub.texts import (
    Text,
    join_windows,
    make_windows,
    one_or_many,
    run_sorted,
)
from fairseq_electra.modules.answer_head import ANSWER_HEADS
from fairseq_electra.modules.token_types import mark_second_sentence
from fairseq_electra.modules.two_towers import gather_log_q, noise_logits

BATCH = 32  # texts
Texts = Union[str, Iterable[str]]


class Electra(HubModel):
    """A pre-trained or fine-tuned ELECTRA; `models` and `task` are what fairseq's own have."""

    @property
    def is_electric(self) -> bool:
        """Whether --criterion electric trained it: the discriminator gives energies, and the
        generator reads no `<mask>`."""
        return bool(self.model.cfg.two_tower_generator)

    @property
    def heads(self) -> List[str]:
        """Names of the heads that fine-tuning has added."""
        return list(self.model.classification_heads)

    @cached_property
    def pieces(self) -> Pieces:
        """How the dictionary's entries are spelled, and which can fill a mask."""
        return list_pieces(self)

    def extra_repr(self) -> str:
        return self.describe()

    def __repr__(self) -> str:
        return f"Electra({self.describe()})"

    def describe(self) -> str:
        """In one line: sizes, what it can do, tokenizer."""
        cfg, weights = self.model.cfg, sum(p.numel() for p in self.model.parameters())
        parts = [
            f"{cfg.encoder_layers} layers x {cfg.encoder_embed_dim}, {weights / 1e6:.1f} M weights",
            self.describe_generator(),
            "discriminator" if self.model.discriminator_head is not None else "no discriminator",
            f"heads: {', '.join(self.heads) or 'none'}",
            self.describe_tokenizer(),
            f"at most {self.max_tokens} tokens at once",
            str(self.device),
        ]
        return f"{self.checkpoint}: " + "; ".join(parts)

    def describe_generator(self) -> str:
        if self.model.generator is None:
            return "no generator"
        return "two-tower generator (Electric)" if self.is_electric else "generator"

    def describe_tokenizer(self) -> str:
        if self._tokenizer is None:
            return "no tokenizer"
        case = "cased" if self.tokenizer.cased else "uncased"
        return f"{len(self.tokenizer.pieces)} pieces of {self.tokenizer.kind}, {case}"

    # --- as fairseq's RobertaHubInterface

    def encode(self, sentence: str, *others: str) -> Tensor:
        """Tokens (T,) of `<s> sentence </s>`, or of `<s> sentence </s> other </s> ...`."""
        numbers = [self.dictionary.bos()]
        for text in (sentence, *others):
            numbers += [*self.read(text).numbers, self.dictionary.eos()]
        return torch.tensor(numbers)

    def decode(self, tokens: Tensor) -> str:
        """The text of tokens (T,), without `<s>`, `</s>` and padding; sentences in a row."""
        return self.tokenizer.decode([self.dictionary[number] for number in tokens.tolist()])

    def extract_features(
        self, tokens: Tensor, return_all_hiddens: bool = False
    ) -> Union[Tensor, List[Tensor]]:
        """Features (B, T, C) of tokens (T,) or (B, T) in the last layer; or of all layers, a list
        that begins with the embeddings' output.

        Raises:
            ValueError: if there are more tokens than the model has positions.
        """
        tokens = self.to_batch(tokens)
        with self.model.autocast(tokens.device):
            features, extra = self.model.encode(
                tokens,
                token_types=self.mark_types(tokens),
                return_all_hiddens=return_all_hiddens,
            )
        return extra["inner_states"] if return_all_hiddens else features

    def predict(self, head: str, tokens: Tensor, return_logits: bool = False) -> Tensor:
        """Log-probabilities (B, N) that a head gives tokens (T,) or (B, T); or its logits as such.

        A head with one number (regression) gives that; one for tags (B, T, N).

        Raises:
            ValueError: if there is no such head, or it is one for answers.
        """
        self.require_head(head)
        if isinstance(self.model.classification_heads[head], tuple(ANSWER_HEADS.values())):
            raise ValueError(f"head {head!r} reads a question and its text: use answer()")
        tokens = self.to_batch(tokens)
        logits, _ = self.model(tokens, classification_head_name=head)
        is_number = torch.is_tensor(logits) and logits.size(-1) == 1
        return logits if return_logits or is_number else logits.float().log_softmax(-1)

    # --- what the modules of the subjects ask

    def to_batch(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) on the model's device, of (T,) or (B, T)."""
        return (tokens if tokens.dim() == 2 else tokens[None]).to(self.device)

    def mark_types(self, tokens: Tensor) -> Tensor:
        """Token types (B, T): 1 for a second sentence, as in fine-tuning."""
        return mark_second_sentence(tokens, self.dictionary.eos(), self.dictionary.pad())

    def require_head(self, name: str) -> None:
        """ValueError if there is no such head."""
        if name not in self.heads:
            known = ", ".join(self.heads) or "none: fine-tune it first"
            raise ValueError(f"{self.checkpoint} has no head {name!r}; it has {known}")

    def require_generator(self, what: str) -> None:
        """ValueError if the model cannot fill masks, which `what` needs."""
        if self.model.generator is None:
            raise ValueError(
                f"{what} needs the generator, which {self.checkpoint} has not: "
                "name a checkpoint of pre-training"
            )

    def refuse_electric(self, what: str, why: str) -> None:
        """ValueError if --criterion electric trained the model, which `what` cannot use."""
        if self.is_electric:
            raise ValueError(
                f"{what} is not for {self.checkpoint}, which --criterion electric trained: {why}"
            )

    def require_discriminator(self, what: str) -> None:
        """ValueError if the model cannot tell replaced tokens, which `what` needs."""
        if self.model.discriminator_head is None:
            raise ValueError(
                f"{what} needs the discriminator's head, which {self.checkpoint} has not: "
                "name a checkpoint of pre-training"
            )

    @torch.inference_mode()
    def disc_logits(self, tokens: Tensor) -> Tensor:
        """What the discriminator says of tokens (B, T), in float32: of Electric their energies."""
        logits, _ = self.model(tokens, features_only=False)
        return logits.float()

    def replaced_logits(self, tokens: Tensor) -> Tensor:
        """Log-odds (B, T) in float32, positive where a token looks replaced.

        Of Electric: that it was put there by the generator, be it the original.
        """
        from fairseq_electra.hub.scores import masked_share

        logits = self.disc_logits(tokens)
        if not self.is_electric:
            return logits
        return noise_logits(logits, self.log_q(tokens), masked_share(self))

    def log_q(self, tokens: Tensor) -> Tensor:
        """Log-probabilities (B, T) of tokens, each given all others, by a two-tower generator."""
        return gather_log_q(self.word_logits(tokens, None), tokens)

    @torch.inference_mode()
    def word_logits(self, tokens: Tensor, picked: Optional[Tensor]) -> Tensor:
        """The generator's logits (B, K, V) in float32 at the positions `picked` (B, K).

        None is all positions, if it has two towers.
        """
        model = self.model
        padding_mask = tokens.eq(self.dictionary.pad())
        with model.autocast(tokens.device):
            logits = model.generator(tokens, None, padding_mask, picked, model.embeddings)
        return logits.float()

    @torch.inference_mode()
    def layer_features(self, tokens: Tensor, layer: int) -> Tensor:
        """Features (B, T, C) in float32 of single sentences in one layer, 0 for the embeddings.

        The layers above it are not computed.
        """
        model = self.model
        padding_mask = tokens.eq(self.dictionary.pad())
        with model.autocast(tokens.device):
            features = model.encoder(model.embeddings(tokens), padding_mask, depth=layer)
        return features.float()

    def each_piece(
        self,
        texts: Iterable[Text],
        compute: Callable[[Tensor], Tensor],
        batch_size: int = BATCH,
        keep: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> Iterator[Tensor]:
        """What `compute` makes of each piece of each text: tensors (P, ...) on the CPU.

        Args:
            compute: tokens (B, T), padded -> (B, T, ...).
            keep: what is kept of a text's (P, ...), if not all.
        """
        bos, eos = self.dictionary.bos(), self.dictionary.eos()

        def run(batch: List[Text]) -> List[Tensor]:
            windows = [
                window
                for number, text in enumerate(batch)
                for window in make_windows(number, text.numbers, self.max_tokens, bos, eos)
            ]
            rows = run_sorted(windows, lambda each: len(each.tokens), run_windows, batch_size)
            own: List[Tuple[list, list]] = [([], []) for _ in batch]
            for window, row in zip(windows, rows, strict=True):
                own[window.text][0].append(window)
                own[window.text][1].append(row)
            return [keep(join_windows(*parts)) for parts in own]

        def run_windows(batch) -> List[Tensor]:
            computed = compute(self.pad([window.tokens for window in batch])).cpu()
            return [row[: len(window.tokens)] for row, window in zip(computed, batch, strict=True)]

        return run_sorted(texts, lambda text: len(text.numbers), run, batch_size)

    # --- what only ELECTRA can do

    def replaced(self, text: Texts) -> Any:
        """For each word its place and the probability that it does not belong there.

        Returns:
            A list of `{"word", "start", "end", "score"}`; `start` and `end` in characters, `score`
            in [0, 1], of the word's most suspicious piece.

        Raises:
            ValueError: if the model has no discriminator's head.
        """
        from fairseq_electra.hub.replaced import find_replaced

        return one_or_many(text, lambda texts: find_replaced(self, texts))

    def proofread(self, text: Texts, topk: int = 5, threshold: float = 0.5) -> Any:
        """For each suspicious word what would fit, by generator and discriminator together.

        Args:
            topk: most suggestions a word.
            threshold: least `score` of a suspicious word.

        Returns:
            As `replaced`, of the suspicious words alone, each with `"suggestions"`: a list of
            `{"word", "score"}`, best first; scores sum to 1 over all words that were considered.
            Words with characters that the vocabulary lacks are left out.

        Raises:
            ValueError: if the model lacks one of both networks.
        """
        from fairseq_electra.hub.replaced import proofread

        return one_or_many(text, lambda texts: proofread(self, texts, topk, threshold))

    def fill_mask(self, text: Texts, topk: int = 5) -> Any:
        """The generator's best words for the one `<mask>` in a text.

        Returns:
            A list of `(filled text, probability, word)`, best first, as fairseq's RoBERTa.

        Raises:
            ValueError: if a text has no `<mask>`, or several, or the model has no generator.
        """
        from fairseq_electra.hub.replaced import fill_mask

        return one_or_many(text, lambda texts: fill_mask(self, texts, topk))

    def score(self, text: Texts, by: Optional[str] = None) -> Any:
        """One number for a sentence, in nats; higher is more natural. Its formula: scores.py.

        Args:
            by: "discriminator", one pass; "generator", its pseudo-log-likelihood, one pass a token;
                "combined", both; "electric", the pseudo-log-likelihood by energies, one pass, for
                what --criterion electric trained (default: that of such a model, otherwise the
                first).

        Raises:
            ValueError: if the model lacks what is asked for.
        """
        from fairseq_electra.hub.scores import score_texts

        return one_or_many(text, lambda texts: score_texts(self, texts, by))

    def compare(self, good: str, bad: str, by: Optional[str] = None) -> float:
        """By how many nats `good` scores above `bad`; see `score`."""
        one, other = self.score([good, bad], by)
        return one - other

    def zero_shot(
        self, text: Texts, labels: Sequence[str], template: str = "{text} {label}"
    ) -> Any:
        """Labels without fine-tuning: each in the template's place, judged by the discriminator.

        Args:
            labels: words or phrases.
            template: with `{text}` and `{label}`, such as "{text} It was {label}."

        Returns:
            A list of `{"label", "score"}`, best first; scores sum to 1.

        Raises:
            ValueError: if the template lacks one of both places, or there are no labels.
        """
        from fairseq_electra.hub.scores import zero_shot

        return one_or_many(text, lambda texts: zero_shot(self, texts, labels, template))

    def generate(
        self,
        prompt: str = "",
        length: int = 20,
        steps: int = 10,
        temperature: float = 1.0,
        seed: Optional[int] = None,
        show_rejected: bool = False,
    ) -> Any:
        """Text that begins with `prompt`: the generator fills masks, the discriminator rejects.

        Args:
            prompt: may hold `<mask>` itself, for gaps to fill; without one, `length` pieces follow.
            length: of what is new, in pieces.
            steps: rounds; in each the worst pieces are masked and filled again.
            temperature: of the samples; 0 takes the best piece.
            seed: for the same text again.
            show_rejected: return `{"text", "rejected"}` with the pieces that each round masked
                again, a list of `{"word", "score"}` a round.

        Raises:
            ValueError: if the model lacks one of both networks, or it would be too long.
        """
        from fairseq_electra.hub.generation import generate

        return generate(self, prompt, length, steps, temperature, seed, show_rejected)

    # --- as sentence-transformers

    def embed(
        self,
        sentences: Texts,
        batch_size: int = BATCH,
        show_progress_bar: Optional[bool] = None,
        normalize_embeddings: bool = False,
        convert_to_tensor: bool = False,
        layer: Optional[int] = None,
    ) -> Any:
        """A vector for each sentence: the mean of its pieces' features in one layer.

        A text of any length is read whole, in windows; one without pieces, such as "", gets zeros,
        whose cosine with anything is 0.

        Args:
            sentences: also any iterable; what it yields is not kept.
            show_progress_bar: default: if the log is at INFO or lower.
            normalize_embeddings: give vectors the length 1.
            convert_to_tensor: return a tensor, on the model's device.
            layer: 0, the embeddings, to the last; -1 is the last (default: the middle one, in which
                cosines mean most; figures: embeddings.py). Those above it are not computed.

        Returns:
            In float32 an array (C,) for a str, otherwise (N, C); tensors if `convert_to_tensor`.

        Raises:
            ValueError: if there is no such layer.
        """
        from fairseq_electra.hub.embeddings import embed

        return embed(
            *(self, sentences, batch_size, show_progress_bar, normalize_embeddings),
            *(convert_to_tensor, layer),
        )

    def similarity(self, a, b) -> Tensor:
        """Cosines (n, m) of embeddings a (n, C) and b (m, C), arrays or tensors, on a's device.

        Raises:
            ValueError: if they are not of one size.
        """
        from fairseq_electra.hub.embeddings import similarity

        return similarity(a, b)

    def similarity_pairwise(self, a, b) -> Tensor:
        """Cosines (n,) of embeddings a (n, C) and b (n, C), row by row, as `similarity`.

        Raises:
            ValueError: if they are not of one size, or not as many.
        """
        from fairseq_electra.hub.embeddings import similarity_pairwise

        return similarity_pairwise(a, b)

    def summarize(
        self,
        text: str,
        num_sentences: int = 3,
        diversity: float = 0.3,
        use_first: bool = True,
    ) -> List[str]:
        """The first sentence and those that say most of a text and repeat least, in its order.

        Args:
            num_sentences: a text that has no more comes back whole.
            diversity: 0 chooses the most central ones, 1 the most different ones (MMR).
            use_first: always take the first sentence, which in most texts says what they are about.

        Raises:
            ValueError: if `num_sentences` is below 1, or `diversity` is not from 0 to 1.
            ImportError: with what to install, if sentencex is missing.
        """
        from fairseq_electra.hub.summaries import summarize

        return summarize(self, text, num_sentences, diversity, use_first)

    # --- as transformers' pipelines, with fine-tuned heads

    def classify(self, text: Any, top_k: Optional[int] = 1) -> Any:
        """Labels of a text, or of a pair given as a tuple.

        Returns:
            A list of `{"label", "score"}`, best first, `top_k` of them, all for None; of regression
            the one number as score.

        Raises:
            ValueError: if the model was not fine-tuned on sentences.
        """
        from fairseq_electra.hub.predictions import classify

        return one_or_many(text, lambda texts: classify(self, texts, top_k), (str, tuple))

    def tag(self, text: Texts, aggregate: bool = True) -> Any:
        """Tags of words; with `aggregate`, entities that their tags mark.

        Returns:
            A list of `{"entity_group", "score", "word", "start", "end"}`; without `aggregate` one a
            word with `"entity"` in place of `"entity_group"`. `start`, `end` in characters.

        Raises:
            ValueError: if the model was not fine-tuned on tags.
        """
        from fairseq_electra.hub.predictions import tag

        return one_or_many(text, lambda texts: tag(self, texts, aggregate))

    def answer(self, question: str, context: str, top_k: int = 1) -> List[Dict[str, Any]]:
        """Answers to a question, as places of the context.

        Returns:
            A list of `{"score", "start", "end", "answer"}`, best first; "" is no answer.

        Raises:
            ValueError: if the model was not fine-tuned on questions.
        """
        from fairseq_electra.hub.predictions import answer

        return answer(self, question, context, top_k)

    def explain(
        self, text: Union[str, Tuple[str, str]], head: Optional[str] = None, **options
    ) -> Any:
        """Why: what each token adds to a head's prediction, or to a word's looking replaced.

        Args:
            text: with a head of sentences, also a pair.
            options: `label`, `word`, `steps`: see `explain` in explanations.py.

        Returns:
            An Explanation: numbers, among them each token's probability of being replaced; as a
            str a table, as `html()` a page without scripts. See explanations.py.

        Raises:
            ValueError: if there is no such head, label or word, or the text is too long for it.
            ImportError: with what to install, if captum is missing.
        """
        from fairseq_electra.hub.explanations import explain

        return explain(self, text, head, **options)
