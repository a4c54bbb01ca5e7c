"""What made a study's records: functions and programs, and how two of them differ."""

import hashlib
import os
from collections.abc import Iterable
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _fingerprint
from headwise import _provenance
from headwise import _records
from headwise.sweeps._cohort import _program
from headwise.sweeps._store import _study


def study(program: Any) -> dict[str, Any]:
    """What a study's program is, for its text: that of its functions, plain JSON."""
    if isinstance(program, tuple):
        _program.check(program)
        named = zip(("init", "step", "evaluate", "batches"), program, strict=True)
        return {n: _provenance.function(f) for n, f in named if f is not None}
    return {"make": _provenance.function(program)}


def program(parts: Any) -> dict[str, Any]:
    """A hash of a program, of the arrays that it closes over and of its first batch.

    Args:
        parts: of `_program.parts`.

    Returns:
        {"sha256", "of": what must agree so that two hashes can be compared}.
    """
    digest = hashlib.sha256()
    for name in ("init", "step", "evaluate"):
        traced = getattr(parts, name)
        text = "" if traced is None else str(traced.program.jaxpr)
        digest.update(_fingerprint.hashed(text).encode())
        for array in parts.arrays.get(name, ()):
            digest.update(_bytes(array))
    for array in [] if parts.stream is None else jax.tree.leaves(parts.stream.first):
        digest.update(array.tobytes())
    of = {"jax": metadata.version("jax"), "backend": jax.default_backend()}
    return {"sha256": digest.hexdigest(), "of": of}


def check_program(
    folder: str | os.PathLike | None,
    now: Mapping[str, Any],
    cohorts: Iterable[Mapping[str, Any]],
) -> None:
    """Raises StudyError if cohorts were composed for another program."""
    for cohort in cohorts:
        if _fingerprint.differs(cohort.get("program"), now):
            raise _study.StudyError(
                f"folder {folder}: its trials are of another program: the functions "
                "have the same text, but what they call, or the data that they take, "
                "has changed (give another folder)"
            )


def check_train(
    folder: str | os.PathLike | None,
    now: Mapping[str, Any],
    records: Iterable[_records.Record],
) -> None:
    """Raises StudyError if records that would be given back are of another `train`.

    Where both texts are known they decide, and the name does not: it may have moved.
    """
    for record in records:
        before = record["made_with"].get("train")
        if before is None:  # an older record
            continue
        lines = []
        if None in (before["source"], now["source"]):
            if before["name"] != now["name"]:
                lines.append(f"it was {before['name']}, is {now['name']}")
        elif before["source"] != now["source"]:
            lines.append(f"the text of {before['name']} is not that of {now['name']}")
        for name in sorted({*before["uses"], *now["uses"]}):
            was, is_ = (by["uses"].get(name, "not set") for by in (before, now))
            if was != is_:
                lines.append(f"{name} was {was}, is {is_}")
        if lines:
            raise _study.StudyError(
                f"folder {folder}: its trials were run by another train: "
                f"{'; '.join(lines)} (give another folder, or other settings: trials "
                "with others are other trials)"
            )


def _bytes(array: Any) -> bytes:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.asarray(array).tobytes()
