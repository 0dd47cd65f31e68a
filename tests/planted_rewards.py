"""A study in which half of the training questions have rewards that say nothing.

Every question asks for the colour of a thing; the model names one of 12 colours, about any of them
as often. What is right, for held-out questions and for half of the training questions, is a warm
colour, six of the twelve. For the other half a coin is flipped for every colour, until it has
fallen on six. So both halves are equally hard, are rewarded as often and read alike; only training
on the first teaches what held-out questions ask.
"""

import random
from collections.abc import Sequence
from pathlib import Path

from attrib.attribution.ablate import ablate
from attrib.attribution.settings import AblateSettings
from attrib.data.library import store_questions
from attrib.data.questions import AnswerType, Question, Split
from attrib.roles import Role
from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.rollouts import SampleSettings, draw_rollouts
from attrib.store import Store

WARM = ("red", "orange", "yellow", "pink", "gold", "brown")
COLD = ("blue", "green", "violet", "cyan", "grey", "black")
COLOURS = (*WARM, *COLD)
SIGNAL, NOISE = "signal", "noise"
SCALE = 0.1  # of random weights
SPECIAL_TOKENS = ("<pad>", "<unk>", "<end>", "\n", "Q", "A", ":", "?")


def make_questions(training: int, held_out: int, seed: int) -> list[Question]:
    """Return so many training questions, half of them noise, and held-out ones.

    The relation of a training question says which half it belongs to; no method looks at it.
    """
    generator = random.Random(seed)
    questions = []
    for i in range(training + held_out):
        is_training = i < training
        is_noise = is_training and i % 2 == 1
        answers = tuple(generator.sample(COLOURS, len(WARM))) if is_noise else WARM
        questions.append(
            Question(
                question_id=f"{'training' if is_training else 'held-out'}-{i}",
                dataset="colours",
                split=Split.TRAIN if is_training else Split.HELD_OUT,
                text=f"What colour is thing{i}?",
                answers=answers,
                answer_type=AnswerType.NAME,
                subject=None,
                relation=NOISE if is_noise else SIGNAL,
                fact_id=f"{i}",
                popularity=None,
            )
        )
    return questions


def save_model(folder: Path, questions: Sequence[Question], seed: int = 0) -> None:
    """Save a small random model that answers every question with some colour."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = dict.fromkeys(word for q in questions for word in q.text.rstrip("?").split())
    ids = {text: i for i, text in enumerate((*SPECIAL_TOKENS, *COLOURS, *words))}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    pieces = Regex(r"\n|\w+|[^\w\s]")  # blanks have no token
    backend.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="removed", invert=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<end>"
    )
    tokenizer.save_pretrained(folder)
    module = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(ids),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            bos_token_id=None,
            eos_token_id=SPECIAL_TOKENS.index("<end>"),
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.copy_(SCALE * torch.randn(parameter.shape, generator=generator))
        # Feature 0 is a bias, and feature 1 says that a colour has been named.
        colours, end = [ids[colour] for colour in COLOURS], ids["<end>"]
        embedding, head = module.model.embed_tokens.weight, module.lm_head.weight
        embedding[:, 0], embedding[:, 1], embedding[colours, 1] = 4.0, 0.0, 8.0
        for layer in module.model.layers:
            layer.self_attn.o_proj.weight[:2] = 0.0
            layer.mlp.down_proj.weight[:2] = 0.0
        head[:, 0], head[colours, 0] = -3.0, 0.0
        head[:, 1], head[end, 1] = -3.0, 3.0
    module.save_pretrained(folder)


def make_study(
    folder: Path,
    *,
    training: int,
    held_out: int,
    updates: int,
    learning_rate: float = 0.002,
    seeds: int = 1,
    seed: int = 0,
) -> Store:
    """Make the model, draw rollouts, and train full arms, each question about equally often."""
    questions = make_questions(training, held_out, seed)
    save_model(folder / "model", questions, seed)
    store = Store(folder / "study.duckdb")
    with store.writing("attrib test"):
        store_questions(store, "colours", "colours.csv", "hash", questions)
    draw_rollouts(
        store,
        SampleSettings(
            model=str(folder / "model"), dataset="colours", n=32, max_new_tokens=4, device="cpu"
        ),
    )
    bucket_questions(store, BucketSettings(k=32, grader="exact"))
    ablate(
        store,
        AblateSettings(
            subset_where=("TRUE",),
            role=(Role.ONLY,),
            seeds=seeds,
            budget=f"updates={updates}",
            evaluate_at=(1.0,),
            groups=8,
            group_size=16,
            learning_rate=learning_rate,
            eval_where="TRUE",
            eval_samples=0,
            cot_tokens=0,
            device="cpu",
        ),
        lambda plan: None,
    )
    return store
