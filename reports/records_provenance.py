"""What a report knows of how its numbers were made: commands, machines and versions.

Owns the shape of these records. All of it was recorded while the work was done; the machine that
writes the report plays no part.
"""

from dataclasses import dataclass

from attrib.reports.values import Setting


@dataclass(frozen=True, slots=True)
class Environment:
    """A machine with the versions on it, and what was made there."""

    environment_id: str
    found: tuple[Setting, ...]
    """What `attrib env` shows."""
    began_at: str
    rollouts: bool
    """Whether rollouts behind the buckets were drawn here, imported, or asked of a server."""
    buckets: bool
    base: bool
    """Whether the model before training was evaluated here."""
    runs: int
    """Training runs of the experiment that began or went on here."""

    def get(self, key: str) -> str | None:
        """Return one entry, None where it was not recorded."""
        return next((one.value for one in self.found if one.key == key), None)


@dataclass(frozen=True, slots=True)
class Provenance:
    """How rollouts, buckets and runs were made."""

    commands: tuple[str, ...]
    experiment_command: str
    """The newest that made or continued the experiment; `attrib ablate` where none is recorded."""
    """Each once, as it was first typed: rollouts, then buckets, then training."""
    environments: tuple[Environment, ...]
    """In the order in which work began."""
    runs: int
    """Training runs of the experiment that have begun."""
    unrecorded: int
    """Those of them of which the machine is not known."""
    seconds: float
    """That they took together."""
