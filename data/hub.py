"""Question files from the Hugging Face hub, where the network allows it.

Owns which files of a hub data set hold the questions. They are fetched through huggingface_hub,
which caches them and knows gated and private sets; nothing of a data set is run.
"""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attrib.data.files import FORMATS
from attrib.errors import DataError

PREFIX = "hf://datasets/"


@dataclass(frozen=True, slots=True)
class Known:
    """A data set that users name by its id: its layout, and which of its files to read."""

    preset: str
    files: str


KNOWN: Mapping[str, Known] = {
    "akariasai/PopQA": Known("popqa", "test.tsv"),
    "google-research-datasets/nq_open": Known("nq-open", "*.parquet"),
    "mandarjoshi/trivia_qa": Known("triviaqa", "unfiltered.nocontext/*.parquet"),
    "basicv8vc/SimpleQA": Known("simpleqa", "*.csv"),
    "google/simpleqa-verified": Known("simpleqa-verified", "*.csv"),
}


def fetch(name: str) -> tuple[list[Path], str | None]:
    """Return the files of a hub data set, and its layout where it is known.

    Args:
        name: its id, or `hf://datasets/` followed by the id and, perhaps, which files.

    Raises:
        DataError: it cannot be reached, or holds no such file.
    """
    from huggingface_hub import HfApi, hf_hub_download

    owner, dataset, *rest = name.removeprefix(PREFIX).split("/")
    repository = f"{owner}/{dataset}"
    known = KNOWN.get(repository)
    wanted = "/".join(rest) or (known.files if known else "*")
    try:
        listed = HfApi().dataset_info(repository).siblings or ()  # one request, not tried again
        chosen = sorted(file.rfilename for file in listed)
        chosen = [file for file in chosen if fnmatch.fnmatch(file, wanted)]
        chosen = [file for file in chosen if file.removesuffix(".gz").endswith(FORMATS)]
        paths = [Path(hf_hub_download(repository, file, repo_type="dataset")) for file in chosen]
    except Exception as error:  # of the hub, of HTTP and of the network: all mean the same here
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        layout = f" --format {known.preset}" if known else ""
        raise DataError(
            f"'{name}' is no file here, and the hub cannot be asked for it ({reason}). Download "
            f"its files and type: attrib data import FILE{layout}"
        ) from error
    if not paths:
        raise DataError(f"{repository} holds no file '{wanted}' with questions.")
    return paths, known.preset if known else None
