"""Choosing an engine and making it ready.

Owns the settings that name a model and say how it is run, and the one place where an engine's name
becomes an engine. Nothing here draws.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import Field

from attrib.errors import ConfigError, missing_extra
from attrib.plugins import ENGINES, load_plugin
from attrib.progress import say
from attrib.sampling.engine import Engine, EngineName
from attrib.sampling.models import EMBEDDED_NAME, Dtype, ModelFiles, load_files, load_model
from attrib.sampling.prompts import PromptStyle, choose_prompt_style
from attrib.sampling.responder import ModelIdentity, Responder, SampleSet
from attrib.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


AUTO = "auto"
"""The server where --url is given, vLLM where it and a CUDA device are, otherwise tree."""
_OURS = tuple(name for name in EngineName if name is not EngineName.IMPORTED)


class EngineSettings(Settings):
    """Which model is asked, how, and by which engine."""

    model: str = EMBEDDED_NAME
    """`smollm2-135m`, a model folder, or a hub id; with a server, the name it serves."""
    engine: str = AUTO
    """One of `EngineName`, `auto`, or what an entry point of `attrib.engines` is called."""
    temperature: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=16, ge=1)
    """Tokens after which a response is cut off."""
    stop: tuple[str, ...] = ()
    """Texts that end a response."""
    prompt: Path | None = None
    """File with the prompt; `{question}` marks the place of the question."""
    chat: bool | None = None
    """Whether to ask through the model's chat template; None does where it has one."""
    seed: int = 0
    device: str = "auto"
    dtype: Dtype = Dtype.FLOAT32
    max_live_nodes: int | None = Field(default=None, ge=1)
    """Of the tree engine: rows of one forward; None derives it from the free memory."""
    tensor_parallel: int = Field(default=1, ge=1)
    """Of vLLM: GPUs that share the model."""
    gpu_memory: float | None = Field(default=None, gt=0.0, le=1.0)
    """Of vLLM: share of the GPU's memory it may take."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Of vLLM: tokens of prompt and response together."""
    eager: bool = False
    """Of vLLM: do not compile the model."""
    url: str | None = None
    """Of the server: where it is, such as http://localhost:8000/v1."""
    api_key_env: str = "OPENAI_API_KEY"
    """Of the server: the environment variable that holds its key."""
    concurrency: int = Field(default=32, ge=1)
    """Of the server: HTTP requests in flight."""
    timeout: float = Field(default=120.0, gt=0.0)
    """Of the server: seconds to wait for an answer."""


MakeEngine = Callable[[EngineSettings, ModelFiles], Engine]
"""What an entry point of `attrib.engines` has to be."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where rollouts will come from: what they belong to, and how to make the engine ready."""

    sample_set: SampleSet
    open: Callable[[], Responder[Engine]]
    """Loads the model. Raises ModelError where the engine cannot serve it."""


def find_source(
    settings: EngineSettings, choose_style: Callable[[bool], PromptStyle] | None = None
) -> Source:
    """Find the model and settle the identity of its rollouts; no weights are loaded yet.

    Args:
        settings: which model, and how it is run.
        choose_style: how it is asked, with a chat template or without one; by default as questions
            are put.

    Raises:
        ConfigError: settings contradict each other.
        ModelError: the model or the server cannot be found.
        MissingExtraError: the engine's packages are not installed.
    """
    name = choose_engine(settings)
    if choose_style is None:
        choose_style = partial(choose_prompt_style, prompt_file=settings.prompt, stop=settings.stop)
    if name == EngineName.SERVER:
        return _find_server(settings, choose_style)
    files = load_files(settings.model)
    is_chat = settings.chat
    if is_chat is None:
        is_chat = files.tokenizer.chat_template is not None
    elif is_chat and files.tokenizer.chat_template is None:
        raise ConfigError(f"--chat: {settings.model} has no chat template. Leave it out.")
    style = choose_style(is_chat)
    here = Path(settings.model)
    sample_set = _describe(
        settings,
        name,
        str(here.resolve()) if here.is_dir() else settings.model,
        ModelIdentity.of_files(files, style),
        style,
        settings.dtype,
    )

    def open_local() -> Engine:
        say(f"Loading {settings.model} …")
        if name == EngineName.VLLM:
            from attrib.sampling.vllm_engine import VllmEngine, VllmSettings

            engine: Engine = VllmEngine(
                VllmSettings(
                    model_folder=files.folder,
                    dtype=settings.dtype,
                    tensor_parallel_size=settings.tensor_parallel,
                    gpu_memory_utilization=settings.gpu_memory,
                    max_model_len=settings.max_model_len,
                    enforce_eager=settings.eager,
                )
            )
            return engine
        if name not in _OURS:
            return load_engine(name)(settings, files)
        language_model = load_model(settings.model, settings.device, settings.dtype)
        if name == EngineName.TRANSFORMERS:
            from attrib.sampling.generate import TransformersEngine

            return TransformersEngine(language_model)
        from attrib.sampling.tree import TreeEngine

        return TreeEngine(language_model, settings.max_live_nodes)

    return _source(sample_set, open_local, files.tokenizer)


def load_engine(name: str) -> MakeEngine:
    """Return what makes an engine of another package ready.

    Raises:
        ConfigError: there is none of this name.
    """
    return cast(MakeEngine, load_plugin(ENGINES, name, (AUTO, *_OURS)))


def choose_engine(settings: EngineSettings) -> str:
    """Return the engine that the settings ask for.

    Raises:
        ConfigError: there is none of this name, or it needs another setting.
        MissingExtraError: vLLM is not installed.
    """
    if settings.engine == AUTO:
        if settings.url is not None:
            return EngineName.SERVER
        return EngineName.VLLM if _vllm_fits(settings.device) else EngineName.TREE
    name = settings.engine
    if name not in _OURS:
        load_engine(name)
    if (name == EngineName.SERVER) != (settings.url is not None):
        needs = "needs the server's --url" if settings.url is None else "takes no --url"
        raise ConfigError(f"--engine {name} {needs}.")
    if name == EngineName.VLLM and importlib.util.find_spec("vllm") is None:
        raise missing_extra("The vllm engine", "vllm", ImportError("vllm"))
    return name


def _vllm_fits(device: str) -> bool:
    if device == "cpu" or importlib.util.find_spec("vllm") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _find_server(settings: EngineSettings, choose_style: Callable[[bool], PromptStyle]) -> Source:
    from attrib.sampling.server import ServerEngine, ServerSettings

    engine = ServerEngine(
        ServerSettings(
            base_url=settings.url or "",
            model="" if settings.model == EMBEDDED_NAME else settings.model,
            api_key_env=settings.api_key_env,
            concurrency=settings.concurrency,
            timeout_seconds=settings.timeout,
        )
    )
    model = engine.served_model()
    style = choose_style(settings.chat is not False)
    identity = ModelIdentity.of_served(model, style)
    sample_set = _describe(settings, EngineName.SERVER, model, identity, style, None)
    return _source(sample_set, lambda: engine, None)


def _describe(
    settings: EngineSettings,
    engine: str,
    model: str,
    identity: ModelIdentity,
    style: PromptStyle,
    dtype: Dtype | None,
) -> SampleSet:
    return SampleSet(
        model=model,
        engine=engine,
        identity=identity,
        prompt=style,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        max_new_tokens=settings.max_new_tokens,
        dtype=dtype,
        seed=settings.seed,
    )


def _source(
    sample_set: SampleSet,
    open_engine: Callable[[], Engine],
    tokenizer: "PreTrainedTokenizerBase | None",
) -> Source:
    return Source(sample_set, lambda: Responder(open_engine(), sample_set, tokenizer))
