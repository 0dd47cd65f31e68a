"""Supervised and rejection fine-tuning and DPO: they learn what they are meant to learn."""

from collections.abc import Callable

import numpy as np
import pytest

from attrib.attribution.ablate import AblationSummary
from attrib.attribution.experiment import set_up
from attrib.attribution.forest import plant
from attrib.attribution.groups import Group
from attrib.attribution.policy import Policy
from attrib.attribution.runs import Runner
from attrib.attribution.settings import AblateSettings
from attrib.attribution.visits import accepted_answers, stored_rollouts
from attrib.errors import ConfigError, DataError
from attrib.roles import Role
from attrib.sampling.models import load_model
from attrib.store import Store

Ablate = Callable[..., AblationSummary]


class Learned:
    """What a model says before and after, log-probabilities of whole responses."""

    def __init__(self, store: Store) -> None:
        settings = AblateSettings(device="cpu")
        with store.writing("attrib test"):
            experiment = set_up(store, settings)
        self._before, responder = Runner(store, experiment, settings).load_base()
        arm_id = store.read("SELECT arm_id FROM arms WHERE role = 'full'").item()
        self._after = Policy(load_model(f"{store.path}.models/{arm_id}", "cpu"))
        questions = experiment.bucketing.training_questions
        self.answers = list(accepted_answers(responder, questions).values())
        self.rollouts = list(
            stored_rollouts(
                store,
                responder,
                experiment.bucketing.grader.fingerprint,
                experiment.bucketing.sample_set_id,
                24,
                questions,
            ).values()
        )

    def gain(self, groups: list[Group], *, right: bool = True) -> float:
        """Return by how much the mean log-probability of the completions has risen."""
        gains = []
        [forest] = plant(groups, 10**6)
        found = [
            policy.logprobs(forest, 1.0).detach().numpy() for policy in (self._before, self._after)
        ]
        for group, targets in zip(groups, forest.targets, strict=True):
            for target_T, is_right in zip(targets, group.correct_G, strict=True):
                if is_right == right:
                    gains.append(found[1][target_T].sum() - found[0][target_T].sum())
        return float(np.mean(gains))


def losses(store: Store) -> list[float]:
    sql = "SELECT loss FROM updates JOIN arms USING (arm_id) WHERE role = 'full' ORDER BY step"
    return store.read(sql)["loss"].to_list()


def visited(store: Store) -> dict[str, int]:
    sql = (
        "SELECT sum(visit.rollouts)::INT AS rollouts, sum(correct)::INT AS correct, "
        "count(*) FILTER (informative)::INT AS informative, count(*)::INT AS visits "
        "FROM visits AS visit JOIN arms USING (arm_id) WHERE role = 'full'"
    )
    return store.read(sql).row(0, named=True)


def test_fine_tuning_raises_the_likelihood_of_the_answers(
    store: Store, ablate_shortly: Ablate
) -> None:
    summary = ablate_shortly(
        store, method="sft", role=(), keep="last", budget="updates=6", groups=15
    )
    assert (summary.failed, summary.exhausted) == ((), ())
    learned = Learned(store)
    assert learned.gain(learned.answers) > 0.5
    assert losses(store)[-1] < losses(store)[0] - 0.5
    assert visited(store) == {"rollouts": 90, "correct": 90, "informative": 90, "visits": 90}
    assert store.read("SELECT sum(rollouts) FROM training_runs").item() == 0  # none was drawn


def test_rejection_fine_tuning_learns_the_right_rollouts(
    store: Store, ablate_shortly: Ablate
) -> None:
    ablate_shortly(store, method="rft", role=(), keep="last", budget="epochs=4", groups=8)
    learned = Learned(store)
    right, wrong = (learned.gain(learned.rollouts, right=right) for right in (True, False))
    assert right > 0.3
    assert right > wrong + 0.3
    first, last = losses(store)[0], losses(store)[-1]
    assert last < first
    found = visited(store)
    drawn = store.read("SELECT sum(correct)::INT AS n, count_if(correct > 0) AS q FROM buckets")
    assert found["correct"] == 4 * drawn["n"].item()  # each as often as it was drawn
    assert found["rollouts"] == 4 * 30 * 24
    assert found["informative"] == 4 * drawn["q"].item()


def test_preferences_part_right_from_wrong(store: Store, ablate_shortly: Ablate) -> None:
    ablate_shortly(
        store,
        method="dpo",
        role=(),
        keep="last",
        budget="updates=10",
        groups=10,
        preference_beta=0.5,
    )
    learned = Learned(store)
    both = [group for group in learned.rollouts if group.has_both]
    right, wrong = (learned.gain(both, right=right) for right in (True, False))
    assert right > wrong + 0.3
    assert losses(store)[0] == pytest.approx(np.log(2), abs=1e-5)
    assert losses(store)[-1] < 0.9 * np.log(2)
    per_visit = store.read("SELECT correct, rollouts FROM visits")
    assert (per_visit["correct"] <= 8).all()  # half of --group-size
    assert (per_visit["rollouts"] - per_visit["correct"] <= 8).all()


@pytest.mark.parametrize("method", ["rft", "dpo"])
def test_a_subset_without_right_rollouts_is_exhausted_at_once(
    store: Store, ablate_shortly: Ablate, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = ablate_shortly(store, method=method, budget="updates=1")
    assert summary.exhausted == ("only never-correct, seed 0",)
    assert summary.failed == ()
    [row] = store.read("SELECT * FROM arms WHERE role = 'only'").iter_rows(named=True)
    assert (row["status"], row["updates"]) == ("exhausted", 0)
    assert row["detail"] == "no question of the subset has what this method learns from"
    assert f"exhausted: {row['detail']}." in " ".join(capsys.readouterr().err.split())
    found = {(e.role, e.statistic): e for e in summary.effects if e.evaluated_on == "held-out"}
    assert found[Role.ONLY, "final_gain"].value == 0.0  # evaluated where it ended: at the start
    assert found[Role.ONLY, "final_gain"].fraction == 0.0


@pytest.mark.parametrize("method", ["rft", "dpo"])
def test_rollouts_without_tokens_are_refused_before_anything_is_trained(
    store: Store, ablate_shortly: Ablate, method: str
) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute("UPDATE rollouts SET token_ids = []")
    with pytest.raises(DataError, match="no token ids"):
        ablate_shortly(store, method=method)
    assert store.read("SELECT * FROM training_runs").is_empty()


@pytest.mark.parametrize("method", ["sft", "rft", "dpo"])
def test_a_budget_of_rollouts_needs_a_method_that_draws_some(
    store: Store, ablate_shortly: Ablate, method: str
) -> None:
    with pytest.raises(ConfigError, match=f"--method {method} draws no rollouts"):
        ablate_shortly(store, method=method, budget="rollouts=100")
