"""Storage by path and by URL: whole files, or none."""

from pathlib import Path

import pytest

from attrib.attribution.storage import Storage
from attrib.errors import ConfigError, MissingExtraError, StoreError


@pytest.fixture(params=["path", "file://", "memory://"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    place = str(tmp_path / "storage")
    return Storage.of({"path": place}.get(request.param, f"{request.param}{place}"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    return path


def test_what_is_pushed_is_pulled(storage: Storage, file: Path, tmp_path: Path) -> None:
    below = storage.below("experiment", "arm")
    to = tmp_path / "deep" / "copy"
    assert not below.pull("a", to)
    assert below.names() == []
    below.push(file, "a")
    file.write_bytes(b"second")
    below.push(file, "a")
    below.push(file, "folder/b")
    assert below.names() == ["a", "folder/b"]
    assert storage.names() == ["experiment/arm/a", "experiment/arm/folder/b"]
    assert below.pull("a", to)
    assert to.read_bytes() == b"second"
    storage.below("experiment").remove()
    assert storage.names() == []
    storage.below("experiment").remove()  # again: there is nothing to do


def test_a_file_that_was_being_written_is_not_there(
    storage: Storage, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.push(file, "a")
    files = storage._open()[0]
    with monkeypatch.context() as patch:
        patch.setattr(type(files), "mv", lambda *_, **__: (_ for _ in ()).throw(OSError("lost")))
        file.write_bytes(b"second")
        with pytest.raises(StoreError, match=r"a cannot be written to .*: lost\. See that"):
            storage.push(file, "a")
        with pytest.raises(StoreError):
            storage.push(file, "b")
    assert storage.names() == ["a"]


def test_what_cannot_be_read_or_written(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.of(str(tmp_path / "folder"))
    storage.push(file, "a")
    monkeypatch.setattr(
        type(storage._open()[0]), "get_file", lambda *_: (_ for _ in ()).throw(OSError("lost"))
    )
    with pytest.raises(StoreError, match=r"a cannot be read from .*folder: lost\. See that"):
        storage.pull("a", tmp_path / "copy")
    (tmp_path / "occupied").write_text("a file")
    with pytest.raises(StoreError, match=r"a cannot be written to .*occupied"):
        Storage.of(str(tmp_path / "occupied")).push(file, "a")


def test_a_path_becomes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storage.of("storage").url == str(tmp_path / "storage")
    assert Storage.of("s3://bucket/study/").below("arm").url == "s3://bucket/study/arm"


def test_kinds_of_storage_that_are_not_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--storage nonsense://x: .*nonsense"):
        Storage.of("nonsense://x").push(file, "a")

    import fsspec

    def lacking(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacking)
    with pytest.raises(MissingExtraError, match="--storage s3://x: Install s3fs"):
        Storage.of("s3://x").push(file, "a")
