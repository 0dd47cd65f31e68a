"""Files that commands write: whole or not at all."""

from pathlib import Path

import pytest

from attrib.errors import ConfigError
from attrib.files import STDOUT, writing_to


def test_what_is_there_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    (tmp_path / "report.html.partial").write_text("what a kill has left")
    output.write_text("old")

    def write_half() -> None:
        with writing_to(output) as stream:
            stream.write(b"half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert output.read_text() == "old"
    with writing_to(output) as stream:
        stream.write(b"new")
        assert output.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert output.read_text() == "new"


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    with writing_to(tmp_path / "a" / "b" / "rows.csv") as stream:
        stream.write(b"n")
    assert (tmp_path / "a" / "b" / "rows.csv").read_bytes() == b"n"


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"^\S+ cannot be written: .*Choose another --output\.$"),
        writing_to(tmp_path / "file" / "rows.csv"),
    ):
        pass


def test_a_dash_is_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    print("before", end=" ")
    with writing_to(STDOUT) as stream:
        stream.write(b"rows")
    assert capfdbinary.readouterr().out == b"before rows"
    assert not list(tmp_path.iterdir())
