"""What other packages add: engines, graders and trainers.

A package names what it adds in its own pyproject.toml, `[project.entry-points."attrib.graders"]`;
installed beside attrib it is found by that name. Nothing is imported until it is asked for.
"""

from importlib.metadata import entry_points

from attrib.errors import ConfigError

ENGINES = "attrib.engines"
GRADERS = "attrib.graders"
TRAINERS = "attrib.trainers"


def load_plugin(group: str, name: str, ours: tuple[str, ...]) -> object:
    """Return what a package adds under a name.

    Args:
        group: of entry points: ENGINES, GRADERS or TRAINERS.
        name: as users say it.
        ours: the names that attrib itself knows, for the message.

    Raises:
        ConfigError: nothing has this name, or it cannot be imported.
    """
    found = entry_points(group=group)
    if name not in found.names:
        what = group.removeprefix("attrib.").removesuffix("s")
        known = ", ".join([*ours, *sorted(found.names - set(ours))])
        raise ConfigError(f"There is no {what} '{name}'. Choose one of: {known}")
    one = found[name]
    try:
        return one.load()
    except Exception as error:  # whatever the package's import raises
        raise ConfigError(f"'{name}' ({one.value}) cannot be loaded: {error!r}") from error
