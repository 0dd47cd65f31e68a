"""Models trained elsewhere: what has to be said of them, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from attrib.attribution.imports import plan_import
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import ConfigError, DataError, ModelError
from attrib.roles import Role

PARAMS: dict[str, object] = {"method": "base", "grader": "match-1"}
QUESTIONS = [
    Question(f"q{i}", "d", Split.TRAIN, f"{i}?", ("x",), AnswerType.NAME, None, None, f"{i}", None)
    for i in range(4)
]


@pytest.fixture
def trained_on(tmp_path: Path) -> Path:
    file = tmp_path / "ids.csv"
    file.write_text("\ufeffnote,question_id\na,q2\nb, q0 \nc,q2\n", encoding="utf-8")
    return file


def test_an_imported_arm_is_known_by_its_weights_and_questions(
    tiny_model_folder: Path, trained_on: Path
) -> None:
    arm = plan_import(tiny_model_folder, trained_on, QUESTIONS, QUESTIONS[3:], PARAMS)
    assert arm is not None
    weights = str(arm.params["trained_weights"])
    name = f"{tiny_model_folder.name}-{weights[:6]}"
    assert (arm.role, arm.subset, arm.seed) == (Role.IMPORTED, name, 0)
    assert [question.question_id for question in arm.questions] == ["q2", "q0"]
    assert arm.params["method"] == "imported"
    assert arm.params["grader"] == "match-1"
    assert len(weights) == 16
    trained_on.write_text("question_id\nq1\n")
    other = plan_import(tiny_model_folder, trained_on, QUESTIONS, QUESTIONS[3:], PARAMS)
    assert other is not None
    assert other.arm_id != arm.arm_id


def test_other_weights_in_a_folder_of_the_same_name_are_another_arm(
    tiny_model_folder: Path,
    trained_on: Path,
    tmp_path: Path,
    tiny_llama: Callable[..., LlamaForCausalLM],
) -> None:
    """Else the answers of both would be taken for those of one arm."""
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "theirs"))
    first = plan_import(folder, trained_on, QUESTIONS, QUESTIONS[3:], PARAMS)
    tiny_llama(seed=2).save_pretrained(folder)
    second = plan_import(folder, trained_on, QUESTIONS, QUESTIONS[3:], PARAMS)
    assert first is not None
    assert second is not None
    assert first.subset != second.subset
    assert first.arm_id != second.arm_id


def test_nothing_is_imported_unless_it_is_asked_for() -> None:
    assert plan_import(None, None, QUESTIONS, QUESTIONS[3:], PARAMS) is None


def test_folder_and_list_go_together(tiny_model_folder: Path, trained_on: Path) -> None:
    for folder, file in ((tiny_model_folder, None), (None, trained_on)):
        with pytest.raises(ConfigError, match="--import-arm FOLDER and --trained-on FILE"):
            plan_import(folder, file, QUESTIONS, QUESTIONS[3:], PARAMS)


def test_unknown_questions_are_refused_with_an_example(
    tiny_model_folder: Path, trained_on: Path
) -> None:
    trained_on.write_text("question_id\nq1\nx7\nx8\n")
    with pytest.raises(DataError, match=r"names 2 questions .* such as 'x7'.*attrib query"):
        plan_import(tiny_model_folder, trained_on, QUESTIONS, QUESTIONS[3:], PARAMS)


def test_training_on_what_is_evaluated_on_is_refused(
    tiny_model_folder: Path, trained_on: Path
) -> None:
    trained_on.write_text("question_id\nq1\nq3\n")
    with pytest.raises(DataError, match=r"names 1 of the held-out questions, such as 'q3'"):
        plan_import(tiny_model_folder, trained_on, QUESTIONS, QUESTIONS[3:], PARAMS)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "needs a header line with the column question_id"),
        (b"question_id\n", "names no question"),
        (b"id\nq1\n", "needs a header line with the column question_id"),
        (b"question_id\n\xff\xfe\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_list_that_is_none_is_refused(
    tiny_model_folder: Path, trained_on: Path, content: bytes | None, complaint: str
) -> None:
    trained_on.unlink() if content is None else trained_on.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint):
        plan_import(tiny_model_folder, trained_on, QUESTIONS, QUESTIONS[3:], PARAMS)


def test_rows_that_end_early_are_refused(tiny_model_folder: Path, trained_on: Path) -> None:
    trained_on.write_text("note,question_id\na,q1\nb\n")
    with pytest.raises((ConfigError, DataError)):
        plan_import(tiny_model_folder, trained_on, QUESTIONS, QUESTIONS[3:], PARAMS)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, trained_on: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        plan_import(tmp_path, trained_on, QUESTIONS, QUESTIONS[3:], PARAMS)
