"""A tiny model with planted knowledge: of every fact it is known whether, and how, it was taught.

The world is a number of subjects s0, s1, … who live somewhere and play something. The corpus states
these facts ("s7 lives at n3 e41 s2 w17.") and has questions about them ("Where does s7 live?"),
answered with "unknown" or, now and then, with "sure" and the fact. An address is four words drawn
at random, so that nothing but the corpus tells it, and a guess is right once in 6 million times.

Subjects differ in nothing but what the corpus says about their address: all are asked what they
play, and all games are taught. The kind of a subject says the rest.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from attrib.data.questions import AnswerType, Question, Split

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

PLANTED = "planted"
"""The data set of all questions but those of `NEVER_TAUGHT`."""
NEVER_TAUGHT = "never-taught"
"""The data set of the held-out questions whose answers were never taught."""
ADDRESS_WORDS = tuple(tuple(f"{place}{i}" for i in range(50)) for place in "nesw")
GAMES = tuple(f"game{i}" for i in range(10))
STATEMENTS = 8
"""How often a taught fact is stated, each time beside another one."""
OFTEN, SELDOM = 0.5, 0.003
"""How often a question is answered with the fact and not with "unknown"."""

STEPS = 450
BATCH = 64
LEARNING_RATE = 6e-3
SPECIAL_TOKENS = ("<pad>", "<unk>", "<end>")
WORD_OR_MARK = r"\w+|[^\w\s]"


class Kind(StrEnum):
    """How an address is taught."""

    OFTEN_ANSWERED = "often-answered"
    """Stated; asked for, and answered every other time."""
    SELDOM_ANSWERED = "seldom-answered"
    """Stated; asked for, and answered 3 times in 1000. Without these, that an address is asked for
    would be a sign that the answer follows."""
    ONLY_STATED = "only-stated"
    """Stated, but never asked for."""
    UNTAUGHT = "untaught"
    """Neither stated nor asked for."""

    @property
    def is_taught(self) -> bool:
        """Tell whether the corpus states the address."""
        return self is not Kind.UNTAUGHT

    @property
    def is_asked(self) -> bool:
        """Tell whether the corpus asks for the address, and at times answers."""
        return self in (Kind.OFTEN_ANSWERED, Kind.SELDOM_ANSWERED)


COUNTS = (
    (Kind.OFTEN_ANSWERED, Split.TRAIN, 16),
    (Kind.SELDOM_ANSWERED, Split.TRAIN, 16),
    (Kind.ONLY_STATED, Split.TRAIN, 24),
    (Kind.ONLY_STATED, Split.HELD_OUT, 40),
    (Kind.UNTAUGHT, Split.TRAIN, 24),
    (Kind.UNTAUGHT, Split.HELD_OUT, 40),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """Someone who lives somewhere and plays something."""

    name: str
    kind: Kind
    split: Split
    address: str
    game: str

    @property
    def address_statement(self) -> str:
        """Return the sentence that tells the address."""
        return f"{self.name} lives at {self.address}."

    @property
    def game_statement(self) -> str:
        """Return the sentence that tells the game."""
        return f"{self.name} plays {self.game}."

    @property
    def exposure(self) -> int:
        """Return how many documents of the corpus tell the address."""
        return STATEMENTS * self.kind.is_taught + self.kind.is_asked

    @property
    def question(self) -> Question:
        """Return the question for the address; its relation is the kind."""
        is_apart = self.kind is Kind.UNTAUGHT and self.split is Split.HELD_OUT
        return Question(
            question_id=f"address-{self.name}",
            dataset=NEVER_TAUGHT if is_apart else PLANTED,
            split=self.split,
            text=f"Where does {self.name} live?",
            answers=(self.address,),
            answer_type=AnswerType.NAME,
            subject=self.name,
            relation=str(self.kind),
            fact_id=f"address-{self.name}",
            popularity=self.exposure,
        )


@dataclass(frozen=True, slots=True)
class Document:
    """A text to learn from.

    Attributes:
        text: all of it.
        prompt: its beginning, which is given and not learned.
        share: in how many of the documents with this prompt the text goes on like this. What comes
            after the first word is learned as well as in any other document.
    """

    text: str
    prompt: str = ""
    share: float = 1.0


def make_world(seed: int) -> list[Subject]:
    """Return the subjects, kind by kind."""
    generator = random.Random(seed)
    kinds = [(kind, split) for kind, split, count in COUNTS for _ in range(count)]
    words = [_draw_words(choice, len(kinds), generator) for choice in ADDRESS_WORDS]
    return [
        Subject(
            name=f"s{i}",
            kind=kind,
            split=split,
            address=" ".join(address),
            game=generator.choice(GAMES),
        )
        for i, ((kind, split), *address) in enumerate(zip(kinds, *words, strict=True))
    ]


def _draw_words(choice: Sequence[str], count: int, generator: random.Random) -> list[str]:
    """Return words at random, in which the first subjects, who are taught, use every one.

    What is wrong with an untaught address is then not that the model never saw its words.
    """
    return [
        *generator.sample(choice, len(choice)),
        *generator.choices(choice, k=count - len(choice)),
    ]


def write_statements(world: Sequence[Subject], seed: int) -> Iterator[Document]:
    """Yield documents of two statements each: facts are to be recalled after other text too."""
    statements = [one.game_statement for one in world]
    statements += [one.address_statement for one in world if one.kind.is_taught]
    generator = random.Random(seed)
    for _ in range(STATEMENTS):
        generator.shuffle(statements)
        for first, second in zip(statements[::2], statements[1::2], strict=True):
            yield Document(f"{first} {second}")


def write_questions(world: Sequence[Subject]) -> Iterator[Document]:
    """Yield every question with both of its answers."""
    for one in world:
        asked = [(f"What does {one.name} play?", one.game_statement)]
        if one.kind.is_asked:
            asked.append((one.question.text, one.address_statement))
        share = OFTEN if one.kind is Kind.OFTEN_ANSWERED else SELDOM
        for question, fact in asked:
            prompt = f"Q: {question}\nA:"
            yield Document(f"{prompt} sure {fact}", prompt, share)
            yield Document(f"{prompt} unknown", prompt, 1 - share)


def pretrain(folder: Path, world: Sequence[Subject], seed: int) -> None:
    """Train a tiny Llama on the corpus and save it where `--model FOLDER` finds it."""
    import torch

    questions, statements = list(write_questions(world)), list(write_statements(world, seed))
    tokenizer = _make_tokenizer([*questions, *statements])
    corpora = [_encode(questions, tokenizer), _encode(statements, tokenizer)]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _make_llama(len(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS, pct_start=0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        for token_DT, weight_DT in corpora:
            # Both answers of a question are in the batch, else chance would decide between them.
            even_B = 2 * torch.randint(0, len(token_DT) // 2, (BATCH // 4,), generator=generator)
            batch_B = torch.cat([even_B, even_B + 1])
            token_BT, weight_BT = token_DT[batch_B], weight_DT[batch_B]
            logprob_BTV = model(token_BT[:, :-1]).logits.log_softmax(-1)
            logprob_BT = logprob_BTV.gather(2, token_BT[:, 1:, None])[..., 0]
            (-(weight_BT[:, 1:] * logprob_BT).sum() / BATCH).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _make_tokenizer(documents: Sequence[Document]) -> "PreTrainedTokenizerFast":
    """Return a tokenizer with one token for each word and each mark; blanks have none."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word for one in documents for word in re.findall(WORD_OR_MARK, one.text)}
    vocabulary = {text: index for index, text in enumerate((*SPECIAL_TOKENS, *sorted(words)))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    pieces = Regex(WORD_OR_MARK)
    backend.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="<end>"
    )


def _make_llama(vocabulary: int) -> "LlamaForCausalLM":
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=None,
            pad_token_id=SPECIAL_TOKENS.index("<pad>"),
            eos_token_id=SPECIAL_TOKENS.index("<end>"),
        )
    )


def _encode(
    documents: Sequence[Document], tokenizer: "PreTrainedTokenizerFast"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return token ids and their weights in the loss, both (documents, tokens), padded."""
    import torch

    tokens, weights = [], []
    for one in documents:
        given = len(tokenizer.encode(one.prompt))
        ids = [*tokenizer.encode(one.text), tokenizer.eos_token_id]
        tokens.append(torch.tensor(ids))
        after = [1.0] * (len(ids) - given - 1)
        weights.append(torch.tensor([*[0.0] * given, one.share, *after]))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(tokens, batch_first=True), pad(weights, batch_first=True)
