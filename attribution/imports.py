"""Arms trained elsewhere: a folder of weights and the list of what they were trained on."""

import csv
from collections.abc import Sequence
from pathlib import Path

from attrib.attribution.arms import Arm
from attrib.data.questions import Question
from attrib.errors import ConfigError, DataError
from attrib.roles import Role
from attrib.sampling.models import find_model, hash_weights

COLUMN = "question_id"


def plan_import(
    folder: Path | None,
    trained_on: Path | None,
    questions: Sequence[Question],
    held_out: Sequence[Question],
    base_params: dict[str, object],
) -> Arm | None:
    """Return the arm that stands for a model trained elsewhere; None where none is named.

    Args:
        folder: of the model.
        trained_on: CSV file with a column `question_id`.
        questions: that the study knows.
        held_out: those among them that arms are evaluated on.
        base_params: how it is evaluated.

    Raises:
        ConfigError: only one of the two is given, or the file cannot be read.
        DataError: the file names questions that the study does not hold, or evaluates on.
        ModelError: the folder holds no model.
    """
    if folder is None and trained_on is None:
        return None
    if folder is None or trained_on is None:
        raise ConfigError("--import-arm FOLDER and --trained-on FILE.csv go together.")
    known = {question.question_id: question for question in questions}
    ids = _read_ids(trained_on)
    unknown = [one for one in ids if one not in known]
    if unknown:
        raise DataError(
            f"{trained_on} names {len(unknown)} questions that this study does not hold, such as "
            f'{unknown[0]!r}. Ids: attrib query "SELECT question_id, text FROM questions"'
        )
    asked = {question.question_id for question in held_out}.intersection(ids)
    if asked:
        raise DataError(
            f"{trained_on} names {len(asked)} of the held-out questions, such as {min(asked)!r}: "
            "what the model learned from these says nothing about facts it was not taught. Choose "
            "others to evaluate on with --eval-where."
        )
    weights_hash = hash_weights(find_model(str(folder)))
    params = {**base_params, "method": "imported", "trained_weights": weights_hash}
    chosen = tuple(known[one] for one in dict.fromkeys(ids))
    name = f"{folder.resolve().name}-{weights_hash[:6]}"  # other weights are another arm
    return Arm(name, Role.IMPORTED, chosen, params, 0)


def _read_ids(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--trained-on {path} cannot be read: {error}") from error
    if COLUMN not in columns:
        raise ConfigError(f"--trained-on {path} needs a header line with the column {COLUMN}.")
    if not rows:
        raise ConfigError(f"--trained-on {path} names no question under its header line.")
    return [str(row[COLUMN]).strip() for row in rows]
