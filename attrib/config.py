"""Identities and places: canonical hashes, and where caches live.

Everything that must be recognised again (a question, a sample set, an arm) is known by the hash of
its content, written as canonical JSON: sorted keys, nulls kept, no white space.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

DEFAULT_DATABASE = Path("attrib.duckdb")
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
HASH_LENGTH = 16  # hex digits of SHA-256: 64 bits, no collision below a billion items


def canonical_json(value: object) -> str:
    """Return `value` as JSON that is equal whenever the values are equal."""
    return _CANONICAL.encode(value)


def content_hash(value: object) -> str:
    """Return the first 16 hex digits of the SHA-256 of the canonical JSON of `value`."""
    text = canonical_json(value).encode(errors="surrogatepass")  # a model may write half a pair
    return hashlib.sha256(text).hexdigest()[:HASH_LENGTH]


def identify_scores(params: Sequence[tuple[str, str]]) -> str:
    """Return the identity of some arms' scores by a method.

    Args:
        params: of every arm its id, and as JSON what it was scored with.
    """
    return content_hash(sorted([arm_id, json.loads(stored)] for arm_id, stored in params))


def differing_keys(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return `key: old → new` for every key whose value differs, sorted by key."""
    absent = "(absent)"
    return [
        f"{key}: {old.get(key, absent)!r} → {new.get(key, absent)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, absent) != new.get(key, absent)
    ]


def cache_folder() -> Path:
    """Return the folder for converted models: `$ATTRIB_HOME`, or the user's cache folder."""
    import platformdirs

    home = os.environ.get("ATTRIB_HOME")
    return Path(home) if home else platformdirs.user_cache_path("attrib")
