"""The two studies of these tests, a sampled one and a trained one, and when two are equal."""

from pathlib import Path

from attrib.store import Store

QUESTIONS, N, UPDATES = 40, 16, 6

SAMPLING: dict[str, object] = {
    "engine": "slow",
    "n": N,
    "where": "relation = 'continent'",
    "limit": QUESTIONS,
    "max_new_tokens": 4,
    "device": "cpu",
}
TRAINING: dict[str, object] = {
    "subset_where": ("subject < 'M'",),
    "role": ("only",),
    "seeds": 1,
    "trainer": "slow",
    "budget": f"updates={UPDATES}",
    "groups": 2,
    "learning_rate": 0.003,
    "eval_limit": 8,
    "eval_samples": 2,
    "cot_tokens": 0,
    "keep": "last",
    "device": "cpu",
}
SAMPLED = {
    "rollouts": "SELECT * EXCLUDE (logprob) FROM rollouts ORDER BY question_id, rollout",
    "sample_sets": "SELECT * EXCLUDE (command, created_at, used_at) FROM sample_sets",
    "selections": "SELECT * FROM selections ORDER BY ALL",
    "questions": "SELECT * FROM questions ORDER BY question_id",
}
LOGPROBS = "SELECT logprob FROM rollouts ORDER BY question_id, rollout"
TRAINED = {
    "arms": "SELECT * EXCLUDE (wall_seconds) FROM arms ORDER BY arm_id, role",
    "arm_questions": "SELECT * FROM arm_questions ORDER BY ALL",
    "updates": "SELECT * EXCLUDE (seconds) FROM updates ORDER BY arm_id, step",
    "visits": "SELECT * FROM visits ORDER BY arm_id, visit",
    "visit_rollouts": "SELECT * FROM visit_rollouts ORDER BY arm_id, visit, rowid",
    "milestones": "SELECT * EXCLUDE (seconds) FROM milestones ORDER BY arm_id, fraction",
    "evaluations": "SELECT * FROM evaluations ORDER BY ALL",
    "masses": "SELECT * FROM masses ORDER BY ALL",
    "phrasings": "SELECT * FROM phrasings ORDER BY ALL",
    "effects": "SELECT * FROM effects ORDER BY ALL",
    "verdicts": "SELECT * FROM verdicts ORDER BY ALL",
    "rollouts": "SELECT * FROM rollouts ORDER BY ALL",
    "buckets": "SELECT * FROM buckets ORDER BY ALL",
}
SECONDS = "SELECT seconds FROM updates WHERE arm_id = $arm_id ORDER BY step"


def to_flags(settings: dict[str, object]) -> list[str]:
    """Return settings as the command line takes them."""
    words = []
    for name, value in settings.items():
        for one in value if isinstance(value, tuple) else (value,):
            words += [f"--{name.replace('_', '-')}", str(one)]
    return words


def check_sampled_equal(ours: Store, theirs: Store) -> None:
    """Check that all that sampling left in two studies is the same."""
    for table, sql in SAMPLED.items():
        assert ours.read(sql).equals(theirs.read(sql)), table
    difference = ours.read(LOGPROBS)["logprob"] - theirs.read(LOGPROBS)["logprob"]
    assert float(str(difference.abs().max())) < 1e-4


def check_trained_equal(ours: Store, theirs: Store) -> None:
    """Check that all that training left in two studies and beside them is the same."""
    for table, sql in TRAINED.items():
        assert ours.read(sql).equals(theirs.read(sql)), table
    weights = [
        {file.parent.name: file.read_bytes() for file in folder.glob("*/*.safetensors")}
        for folder in (Path(f"{store.path}.models") for store in (ours, theirs))
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 2


def read_seconds(store: Store, arm_id: str) -> list[float]:
    """Return how long each update of an arm took: by this it is known again."""
    return [float(one) for one in store.read(SECONDS, arm_id=arm_id)["seconds"]]
