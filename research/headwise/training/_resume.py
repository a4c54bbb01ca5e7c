"""Going on from a checkpoint: what must agree with it, what is set anew, what is told.

What was learned comes from the checkpoint; what the user sets comes from the program
that runs now. The note of a checkpoint tells the two apart from what is neither.
"""

import logging
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _described
from headwise import _fingerprint
from headwise.training import _checkpoints

StateT = TypeVar("StateT")

_LOG = logging.getLogger("headwise")
_PARTS = ("batches", "key", "program", "window", "recorded")


def note(
    state: Any, program: Any, batches: Any, window: Any, recorded: int | None
) -> dict[str, Any]:
    """What a checkpoint of `fit` says beside the state.

    Args:
        state: its key is kept as numbers.
        program: of `_fingerprint.program`, or None.
        batches: where the batches are, for `_batches`, or None.
        window: of `_window.to_text`.
        recorded: step of the newest record, None if there is none.
    """
    parts = batches, _key(state), program, window, recorded
    return dict(zip(_PARTS, parts, strict=True))


def read(checkpoints: _checkpoints.Checkpoints) -> dict[str, Any]:
    """The note of the newest checkpoint; older ones held less, or `batches` alone."""
    found = checkpoints.note
    if not (isinstance(found, dict) and {*_PARTS[:3]} <= set(found)):
        found = {"batches": found}
    return dict.fromkeys(_PARTS) | found


def start(
    checkpoints: _checkpoints.Checkpoints | None, given: int, steps: int
) -> tuple[int, Any]:
    """The step to go on from, and where the batches were then, None if not known.

    Args:
        checkpoints: None where nothing is kept.
        given: the step of the state that `fit` was given.
        steps: at the end.

    Raises:
        ValueError: more steps are done, in the state or the checkpoint; the state is
            ahead of the checkpoint.
    """
    first, position, who = given, None, "state"
    if checkpoints is not None and checkpoints.latest is not None:
        first, position = checkpoints.latest, read(checkpoints)["batches"]
        who = str(checkpoints.folder)
        if given > first:
            raise ValueError(
                f"state: expected at most the {first} steps of the newest checkpoint "
                f"in {who}, which replaces it, got {given}; give another workdir"
            )
    if first > steps:
        raise ValueError(
            f"steps: expected at least the {first} that are done in {who}, got {steps}"
        )
    return first, position


def resume(
    checkpoints: _checkpoints.Checkpoints, state: StateT, program: Any
) -> tuple[StateT, list[str]]:
    """The newest checkpoint with the settings of `state`, and what changed in words.

    Args:
        checkpoints: without any the state is given back.
        state: the first state of the run as it is set now.
        program: of `_fingerprint.program`, or None.

    Raises:
        WorkdirError: it is of another run; names all that differs.
    """
    if checkpoints.latest is None:
        return state, []
    saved, others = read(checkpoints), []
    old, new = saved["program"], program
    if old and new and old["heads"] != new["heads"]:
        others.append(f"heads: {old['heads']} in the checkpoint, {new['heads']} now")
    if saved["key"] not in (None, _key(state)):
        others.append(f"key: {saved['key']} in the checkpoint, {_key(state)} now")
    restored = checkpoints.restore(state, others)
    heads = (new or old or {}).get("heads", [])
    state, changed = _set_anew(restored, state, heads)
    changed = [f"{line} from step {checkpoints.latest} on" for line in changed]
    if _fingerprint.differs(old, new):
        changed.append(
            "the step is another program than the one that made the checkpoint of step "
            f"{checkpoints.latest}: optimiser, balancer, loss, model or their options "
            "were changed"
        )
    for line in changed:
        _LOG.warning("%s: %s", checkpoints.folder.parent, line)
    return state, changed


def _set_anew(
    restored: StateT, fresh: StateT, heads: Sequence[str]
) -> tuple[StateT, list[str]]:
    """The restored state with the settings of the fresh one, and which differ."""
    old, structure = jax.tree.flatten(restored)
    new, settings = jax.tree.leaves(fresh), _described.is_setting(fresh)
    changed: list[str] = []
    rows = zip(_described.names(fresh), old, new, settings, strict=True)
    for name, was, is_, setting in rows:
        if setting:
            changed += _changes(name.partition("/")[2], was, is_, heads)
    leaves = [n if setting else o for o, n, setting in zip(old, new, settings)]
    return jax.tree.unflatten(structure, leaves), _described.listing(changed)


def _changes(name: str, was: Any, is_: Any, heads: Sequence[str]) -> list[str]:
    """`weights of 'b': 1 -> 0` for every entry that differs."""
    was, is_ = np.asarray(was), np.asarray(is_)
    same = (was == is_) | ((was != was) & (is_ != is_))  # NaN is NaN
    lines = []
    for at in map(tuple, np.argwhere(~same)):
        where = f"[{', '.join(map(str, at))}]" if at else ""
        if was.shape == (len(heads),):
            where = f" of {heads[at[0]]!r}"
        lines.append(f"{name}{where}: {_text(was[at])} -> {_text(is_[at])}")
    return lines


def _text(x: Any) -> str:
    return f"{float(x):.7g}" if jnp.issubdtype(x.dtype, jnp.floating) else str(x)


def _key(state: Any) -> list[int]:
    return np.ravel(jax.random.key_data(state.key)).tolist()
