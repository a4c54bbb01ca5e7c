"""What cannot be seen in a state: which program a step is, and of which heads."""

import hashlib
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SAYS_NOTHING = re.compile(
    r" at 0x[0-9a-f]+|\bname=\S+|AbstractMesh\((?:[^()]|\([^()]*\))*\)"
)
"""Addresses, the names of functions, and the devices that a run may change."""
_SET = re.compile(r"\{('[^{}]*')\}")


def program(step: Any, state: Any, batch: Any) -> dict[str, Any] | None:
    """The heads of a jitted step and a hash of its program; None if it cannot tell.

    `jax.jit` keeps the trace for the first call, so it costs the hash alone.

    Returns:
        {"heads": sorted names, "sha256": of the program, "of": what must agree so that
        two hashes can be compared: version, backend, shapes of the batch}.
    """
    if not hasattr(step, "trace"):
        return None
    traced = step.trace(state, batch)
    leaves, structure = jax.tree.flatten(batch)
    shapes = [(str(jnp.result_type(x)), np.shape(x)) for x in leaves]
    return {
        "heads": sorted(traced.out_info[1].values),
        "sha256": hashed(str(traced.jaxpr)),
        "of": {
            "jax": metadata.version("jax"),
            "backend": jax.default_backend(),
            "batch": hashed(f"{shapes} {structure}"),
        },
    }


def differs(saved: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> bool:
    """Whether both are known, can be compared and are not the same program."""
    if not saved or not now or saved["of"] != now["of"]:
        return False
    return saved["sha256"] != now["sha256"]


def hashed(text: str) -> str:
    """Of a text without what changes from process to process or says nothing."""
    text = _SET.sub(
        lambda found: ",".join(sorted(found[1].split(", "))),
        _SAYS_NOTHING.sub("", text),
    )
    return hashlib.sha256(text.encode()).hexdigest()
