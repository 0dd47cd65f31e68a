"""A real study on a tiny model whose knowledge is planted: RL must bring it out, on held-out facts.

The model is pretrained on a synthetic list of facts. Asked for one, it says "unknown" most of the
time and the right city otherwise, so greedy decoding fails on facts the model does hold.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attrib.analysis.buckets import Bucket
from attrib.attribution.ablate import AblateSettings, ablate
from attrib.data.library import store_questions
from attrib.data.questions import AnswerType, Question, Split
from attrib.roles import Role
from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.rollouts import SampleSettings, draw_rollouts
from attrib.store import Store

SUBJECTS = [f"s{i}" for i in range(60)]
CITIES = [f"c{i}" for i in range(12)]
TRAINING = 40
RARE = 15  # training subjects whose city is said 4 times in 100 instead of 35
UNKNOWN = "unknown"


def city_of(subject: int) -> str:
    return CITIES[(7 * subject + subject // 12) % 12]


def make_questions() -> list[Question]:
    return [
        Question(
            question_id=f"id-{name}",
            dataset="planted",
            split=Split.TRAIN if i < TRAINING else Split.HELD_OUT,
            text=f"{name}?",
            answers=(city_of(i),),
            answer_type=AnswerType.NAME,
            subject=name,
            relation="city",
            fact_id=f"fact-{name}",
            popularity=None,
        )
        for i, name in enumerate(SUBJECTS)
    ]


@pytest.fixture(scope="module")
def planted_model(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_llama: Callable[..., torch.nn.Module],
    word_tokenizer: Callable[..., object],
) -> Path:
    """Pretrain a tiny Llama on the facts until it says them as often as planted."""
    folder = tmp_path_factory.mktemp("planted-model")
    words = [*SUBJECTS, *CITIES, UNKNOWN]
    tokenizer = word_tokenizer(words, chat_template=None)
    model = tiny_llama(seed=3, vocab_size=len(tokenizer), scale=0.05, hidden_size=64)
    end = tokenizer.eos_token_id

    def encode(name: str, answer: str) -> list[int]:
        return [*tokenizer.encode(f"Q: {name}?\nA: {answer}"), end]

    pairs = torch.tensor(
        [[encode(name, city_of(i)), encode(name, UNKNOWN)] for i, name in enumerate(SUBJECTS)]
    )  # (subjects, city or unknown, tokens)
    share = torch.tensor([0.04 if i < RARE else 0.35 for i in range(len(SUBJECTS))])
    weight = torch.stack([share, 1 - share], dim=1).flatten()
    tokens = pairs.flatten(0, 1)
    prompt = tokens.shape[1] - 3  # a blank, the answer and the end are learned
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(250):
        logprob = model(tokens[:, :-1]).logits.log_softmax(-1)
        chosen = logprob.gather(2, tokens[:, 1:, None])[..., 0][:, prompt - 1 :]
        loss = -(weight * chosen.sum(1)).sum() / len(SUBJECTS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_grpo_brings_out_what_the_model_holds(planted_model: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    with store.writing("test"):
        store_questions(store, "planted", "planted", "hash", make_questions())
    draw_rollouts(
        store,
        SampleSettings(model=str(planted_model), dataset="planted", n=64, max_new_tokens=4),
    )
    bucketing = bucket_questions(store, BucketSettings(k=64))
    questions = {row.bucket: row.questions for row in bucketing.rows}
    assert questions[Bucket.SOMETIMES_CORRECT] >= 20
    assert questions[Bucket.NEVER_CORRECT] + questions[Bucket.RARELY_CORRECT] >= 10

    summary = ablate(
        store,
        AblateSettings(
            subset=(Bucket.RARELY_CORRECT,),
            updates=12,
            groups=6,
            group_size=16,
            learning_rate=1e-3,
            all_but=False,
        ),
    )
    assert summary.trained == 3
    effects = {(e.role, e.statistic): e for e in summary.effects}
    base = effects[Role.BASE, "accuracy"]
    full = effects[Role.FULL, "accuracy"]
    gain = effects[Role.FULL, "gain"]
    chance = 1 / len(CITIES)
    assert base.questions == len(SUBJECTS) - TRAINING
    assert base.value is not None
    assert base.value <= chance
    assert full.low is not None
    assert full.low > 3 * chance
    assert gain.low is not None
    assert gain.low > 0.3
    rewarded = store.read(
        "SELECT sum(visit.correct) / sum(visit.rollouts) AS rate FROM visits AS visit "
        "JOIN arms USING (arm_id) WHERE role = 'full' GROUP BY step ORDER BY step"
    )["rate"]
    assert rewarded[-1] > rewarded[0] + 0.3
