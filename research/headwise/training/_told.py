"""What steps told, a row a step: the part of a step's info that `fit` reads."""

import itertools
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from headwise import _hosts
from headwise import _means
from headwise import gradients
from headwise.training import _record
from headwise.typing import Array


class Told(NamedTuple):
    """Of one step; or of many, when every array has a leading axis of steps."""

    values: dict[str, Array]
    counts: dict[str, Array]
    """Of the heads that tell of how many entries their value is the mean."""
    weights: dict[str, Array]
    grad_norm: Array
    conflicts: Array | None
    present: dict[str, Array] | None
    broken: dict[str, Array] | None
    contributions: gradients.Contributions | None
    skipped: Array | None
    """By a loss scale, whose steps tell of it."""
    loss_scale: Array | None


def told(info: _record.Info) -> Told:
    """What `fit` reads of a step's info."""
    return Told(
        values=dict(info.values),
        counts=_means.tally_of(info.values).counts,
        weights=dict(info.weights),
        grad_norm=info.grad_norm,
        conflicts=info.conflicts,
        present=getattr(info, "present", None),
        broken=getattr(info, "broken", None),
        contributions=info.contributions,
        skipped=getattr(info, "skipped", None),
        loss_scale=getattr(info, "loss_scale", None),
    )


def stacked(infos: Sequence[_record.Info]) -> Iterator[Told]:
    """Those of consecutive steps on the host, stacked where they are alike.

    A step that reports tells more than one that does not.
    """
    rows = _hosts.fetched([told(info) for info in infos])
    for _, alike in itertools.groupby(rows, _kind):
        yield jax.tree.map(lambda *leaves: np.stack(leaves), *alike)


def length(rows: Told) -> int:
    """Of how many steps."""
    return len(rows.grad_norm)


def cut(rows: Told, start: int, end: int | None = None) -> Told:
    """Some of the steps."""
    return jax.tree.map(lambda leaf: leaf[start:end], rows)


def _kind(row: Told) -> Any:
    leaves, structure = jax.tree.flatten(row)
    return structure, [np.shape(leaf) for leaf in leaves]
