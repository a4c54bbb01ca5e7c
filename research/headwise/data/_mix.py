"""Batches of several sources through grain: several domains, hospitals, languages."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import jax
import numpy as np

from headwise import _checks
from headwise.data import _grain
from headwise.data import _rows

if TYPE_CHECKING:
    import grain

    Sources = Mapping[str, _rows.Columns | _rows.Records]


def mix(
    sources: Mapping[str, Any],
    *,
    batch_size: int | Mapping[str, int],
    seed: int,
    weights: Mapping[str, float] | None = None,
    batch_of: str = "one",
    shuffle: bool = True,
    epochs: int | Mapping[str, int | None] | None = None,
    share: tuple[int, int] | None = None,
) -> grain.IterDataset:
    """A grain data set of batches of several sources, each of them by name.

    Every source is gone through epoch after epoch, in an order that depends on the
    seed and its own name alone. What a batch holds::

        batch_of="one"   {name: batch}               of one source, drawn by weights
        batch_of="all"   {name: batch, ...}          a part of every source
        batch_of="any"   {"source": int32 [B],       each example drawn by weights;
                          "examples": batch}         names are numbered in sorted order

    By weights is no random draw: grain interleaves the sources in a fixed order, by
    turns where weights are equal (the default). After any number of batches, or of
    examples, each has come in its share, to within one of two sources and to within a
    few of more. A batch is a function of (seed, step) alone, and the iterator resumes
    exactly, as that of `stream`.

    Args:
        sources: {name: records}, each as `stream` takes them. For "any" they all have
            one structure and shape; else each may have its own.
        batch_size: B, of all sources; for "one" and "all" also {name: B}.
        seed: 0 <= seed < 2**32; the same seed gives the same batches.
        weights: {name: > 0}, only their proportions matter, to within half a hundredth
            of the smallest; None: equal. `{name: len(source)}` goes through all at the
            same pace. For "all" the sizes say it.
        batch_of: "one", "all" or "any".
        shuffle: False keeps the order of each source.
        epochs: how often each source is gone through, or {name: how often}; None, of
            all or of one: for ever, started again whenever it is used up. The data set
            ends with the first source that does.
        share: (index, number): of every batch, and of every source in it, the part that
            one of so many processes reads, as `stream` takes it.

    Returns:
        `grain.IterDataset` of batches as above; `.map`, `.filter` and `.mp_prefetch`
        may follow. Batches of a source all have its B rows: they run on over the end
        of an epoch.

    Raises:
        ModuleNotFoundError: grain is not installed.
        TypeError: sources is no dict by name, or one is no source of `stream`.
        ValueError: no source, another `batch_of`, names that are missing or unknown,
            weights that are not > 0 or that do not act, a number out of range, a source
            with fewer records in all its epochs than its batch; for "any": sources of
            different structures or shapes (two are named).

    Example:
        >>> from headwise import data
        >>> sources = {"art": range(3), "photo": range(10, 16)}
        >>> batches = data.mix(
        ...     sources, batch_size=2, seed=0, weights={"art": 1, "photo": 2},
        ...     shuffle=False,
        ... )
        >>> iterator = iter(batches)
        >>> for _ in range(3):
        ...     print({name: x.tolist() for name, x in next(iterator).items()})
        {'art': [0, 1]}
        {'photo': [10, 11]}
        {'photo': [12, 13]}
    """
    rows = _checked(sources)
    _checks.choice("batch_of", ("one", "all", "any"), batch_of)
    seed = _grain.seed(seed)
    _checks.boolean("shuffle", shuffle)
    rounds = _each("epochs", rows, epochs)
    for name, times in rounds.items():
        if times is not None:
            rounds[name] = _checks.positive_int(f"epochs[{name!r}]", times)
    shares = _shares(rows, weights, batch_of)
    grain = _grain.module("mix")
    orders = {
        name: _grain.order(
            grain.MapDataset.range(len(of_source)),
            _seed_of(seed, name),
            shuffle,
            rounds[name],
        )
        for name, of_source in rows.items()
    }
    if batch_of == "any":
        size = _checks.positive_int("batch_size", batch_size)
        _same_structure(rows)
        marked = [
            examples.map(functools.partial(_marked, i))
            for i, examples in enumerate(orders.values())
        ]
        mixed = grain.MapDataset.mix(marked, shares)
        if len(mixed) < size:
            raise ValueError(
                f"batch_size: expected at most the {len(mixed)} examples until the "
                f"first source ends, got {size}"
            )
        whole = functools.partial(_mixed, list(rows.values()))
        together = _rows.part(whole, share, "batch_size", size)
        return _grain.ahead(mixed.batch(size, drop_remainder=True, batch_fn=together))
    sizes = _each("batch_size", rows, batch_size)
    parts = {}
    for name, size in sizes.items():
        size = _checks.positive_int(f"batch_size[{name!r}]", size)
        of_source = rows[name]
        _grain.enough(f"batch_size[{name!r}]", size, len(of_source), rounds[name])
        take = _rows.part(of_source.batch, share, f"batch_size[{name!r}]", size)
        if batch_of == "one":
            take = functools.partial(_named, name, take)
        parts[name] = orders[name].batch(size, drop_remainder=True, batch_fn=take)
    if batch_of == "one":
        return _grain.ahead(grain.MapDataset.mix(list(parts.values()), shares))
    steps = grain.MapDataset.range(min(map(len, parts.values())))
    return _grain.ahead(steps.map(functools.partial(_all_parts, parts)))


def _checked(sources: Any) -> Sources:
    """The sources as rows, in sorted order of names."""
    if not isinstance(sources, Mapping):
        raise TypeError(
            f"sources: expected a dict {{name: records}}, got {_checks.kind(sources)}"
        )
    if not sources:
        raise ValueError("sources: expected at least one source, got none")
    for name in sources:
        if not isinstance(name, str) or not name:
            raise TypeError(f"sources: expected names (non-empty str), got {name!r}")
    return {n: _rows.rows(f"sources[{n!r}]", sources[n]) for n in sorted(sources)}


def _each(argument: str, rows: Sources, got: Any) -> dict[str, Any]:
    """{name: what is given for it}, in the order of the sources."""
    if not isinstance(got, Mapping):
        return dict.fromkeys(rows, got)
    _checks.same_names(argument, rows, got)
    return {name: got[name] for name in rows}


def _shares(
    rows: Sources, weights: Mapping[str, float] | None, batch_of: str
) -> list[int] | None:
    """Proportions, of which the smallest is 100: what grain would round them to."""
    if weights is None:
        return None
    if batch_of == "all":
        raise ValueError(
            'weights: expected None with batch_of="all", where the sizes say how much '
            f"of each source a batch holds (batch_size={{name: B}}), got {weights!r}"
        )
    if not isinstance(weights, Mapping):
        raise TypeError(
            f"weights: expected a dict {{name: number}}, got {_checks.kind(weights)}"
        )
    given = _each("weights", rows, weights)
    for name, weight in given.items():
        _checks.positive(f"weights[{name!r}]", weight)
    least = min(float(weight) for weight in given.values())
    return [round(100 * float(weight) / least) for weight in given.values()]


def _seed_of(seed: int, name: str) -> int:
    """Of one source: another one beside it changes nothing of its order."""
    both = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
    return int(both.generate_state(1)[0])


def _same_structure(rows: Sources) -> None:
    """Raises ValueError that names the first two sources whose examples differ."""
    (first, of_first), *others = rows.items()
    expected = _example(of_first)
    for name, of_source in others:
        got = _example(of_source)
        if got != expected:
            raise ValueError(
                'sources: expected examples of one structure with batch_of="any", got '
                f"{expected} of {first!r} and {got} of {name!r}"
            )


def _example(rows: _rows.Columns | _rows.Records) -> dict[str, str]:
    """{path: dtype and shape} of an example."""
    leaves = jax.tree_util.tree_leaves_with_path(rows.batch([0]))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{x.dtype}"
        f"[{', '.join(map(str, x.shape[1:]))}]"
        for path, x in leaves
    }


def _marked(source: int, row: int) -> tuple[int, int]:
    return source, row


def _named(name: str, take: Any, rows: Sequence[int]) -> dict[str, Any]:
    return {name: take(rows)}


def _all_parts(parts: Mapping[str, Any], t: int) -> dict[str, Any]:
    return {name: batches[t] for name, batches in parts.items()}


def _mixed(rows: Sequence[Any], marked: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The examples of each source by one gather, in the order of the marks."""
    source = np.asarray([h for h, _ in marked], np.int32)
    parts = [
        of_source.batch([row for h, row in marked if h == i])
        for i, of_source in enumerate(rows)
        if (source == i).any()
    ]
    back = np.argsort(np.argsort(source, kind="stable"), kind="stable")
    together = jax.tree.map(lambda *x: np.concatenate(x)[back], *parts)
    return {"source": source, "examples": together}
