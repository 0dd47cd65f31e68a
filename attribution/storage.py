"""Storage: a folder that every node of a cluster sees, by path or by a URL of fsspec.

Owns how files get there and back. A file appears whole or not at all: it is written beside its
place and moved, so that whoever dies while writing leaves the last whole one.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attrib.errors import ConfigError, MissingExtraError, StoreError, first_line


@dataclass(frozen=True, slots=True)
class Storage:
    """A folder somewhere: `s3://bucket/study`, `/shared/study`."""

    url: str

    @classmethod
    def of(cls, place: str) -> "Storage":
        """Return the storage at a path, which becomes absolute, or at a URL.

        Raises:
            ConfigError: it is neither.
        """
        if not place:
            raise ConfigError("--storage needs a path, or a URL such as s3://bucket/study.")
        return cls(place if "://" in place else str(Path(place).resolve()))

    def check(self) -> None:
        """Refuse what nobody can read.

        Raises:
            ConfigError: there is no storage of this kind.
            MissingExtraError: the package for it is not installed.
        """
        self._open()

    def below(self, *names: str) -> "Storage":
        """Return a folder in this one."""
        return Storage("/".join([self.url.rstrip("/"), *names]))

    def push(self, file: Path, name: str) -> None:
        """Put a copy of a file into this folder, in place of one of the same name.

        Raises:
            ConfigError: there is no storage of this kind.
            StoreError: it cannot be written.
        """
        files, folder = self._open()
        target = f"{folder}/{name}"
        partial = f"{target}.partial-{os.getpid()}"
        try:
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(file), partial)
            files.mv(partial, target)
        except Exception as error:  # every kind of storage has errors of its own
            raise StoreError(
                f"{name} cannot be written to {self.url}: {first_line(error)}. See that every node "
                "may write there and that there is room, then type the same command again."
            ) from error

    def pull(self, name: str, to: Path) -> bool:
        """Copy a file of this folder to a path; tell whether there is one.

        Raises:
            StoreError: it cannot be read.
        """
        files, folder = self._open()
        try:
            if not files.exists(f"{folder}/{name}"):
                return False
            to.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(f"{folder}/{name}", str(to))
        except Exception as error:
            raise StoreError(
                f"{name} cannot be read from {self.url}: {first_line(error)}. See that every node "
                "may read there, then type the same command again."
            ) from error
        return True

    def names(self) -> list[str]:
        """Return the whole files below this folder, by their names from here, in order.

        Raises:
            StoreError: it cannot be read.
        """
        files, folder = self._open()
        try:
            if not files.exists(folder):
                return []
            names = [str(found).removeprefix(f"{folder}/") for found in files.find(folder)]
        except Exception as error:
            raise StoreError(
                f"{self.url} cannot be read: {first_line(error)}. See that every node may read "
                "there, then type the same command again."
            ) from error
        return sorted(name for name in names if ".partial-" not in name)

    def remove(self, name: str = "") -> None:
        """Remove a file of this folder, or the folder with everything in it.

        Raises:
            StoreError: it cannot be removed.
        """
        files, folder = self._open()
        place = f"{folder}/{name}" if name else folder
        try:
            if files.exists(place):
                files.rm(place, recursive=True)
        except Exception as error:
            raise StoreError(
                f"{place} cannot be removed: {first_line(error)}. Nothing needs it any more: "
                "remove it yourself."
            ) from error

    def _open(self) -> tuple[Any, str]:
        """Return the file system, which looks anew each time, and the folder's path in it."""
        import fsspec  # type: ignore[import-untyped]

        try:
            files, folder = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise MissingExtraError(f"--storage {self.url}: {first_line(error)}.") from error
        except ValueError as error:
            raise ConfigError(
                f"--storage {self.url}: {first_line(error)}. Give a path, or a URL that fsspec "
                "knows, such as s3://bucket/study."
            ) from error
        files.invalidate_cache()
        return files, str(folder).rstrip("/")
