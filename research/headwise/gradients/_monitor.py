"""Contributions now and then, inside the compiled training step."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _numerics
from headwise import _traced
from headwise import _trees
from headwise.gradients import _backward
from headwise.gradients import _contributions
from headwise.gradients import _head_grads
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


def monitor(
    values_fn: ValuesFn,
    every: int,
    depth: int | None = None,
    has_aux: bool = False,
    *,
    stateful: bool = False,
) -> Callable[..., _contributions.Contributions]:
    """Samples `hw.contributions` every so many steps, in one compiled program.

    For training without a balancer that needs gradients: the step keeps its single
    backward pass, and at steps 0, every, 2 every and so on the head gradients are
    computed beside it. Sampled every k steps, H heads cost about (1 + 2 H) / (3 k) of
    a step. The choice is made on the device (`lax.cond`); under `jax.vmap` the
    gradients are computed at every step.

    On CPU, XLA runs a convolution inside a branch many times slower than outside;
    `hw.nn.matmul_convolution` is free of that, and so is the `report` of
    `hw.training.fit`, a second compiled step.

    Args:
        values_fn, has_aux, stateful: as in `hw.head_grads`; what comes back beside the
            values, aux or rest, is dropped.
        every: a positive number of steps.
        depth: of the modules, as in `hw.contributions`.

    Returns:
        `f(step, params, *args, weights=None, update=None)` -> `Contributions` (with
        `stateful`, args are rest, batch and key), all NaN
        at the steps between two samples, so that `jnp.nanmean` over steps averages the
        samples. step: int scalar; weights and update: as in `hw.contributions`.

    Raises:
        ValueError: `every` is not positive; when called, as `hw.head_grads`.

    Example:
        >>> watch = jax.jit(hw.gradients.monitor(lambda p: {"a": p, "b": 3 * p}, 2))
        >>> print([watch(step, 1.0).share.tolist() for step in range(3)])
        [[[0.25, 0.75]], [[nan, nan]], [[0.25, 0.75]]]
    """
    every = _checks.positive_int("every", every)
    plain = _head_grads.with_tally(values_fn, has_aux, stateful)

    def sampled(
        step: Array | int,
        params: PyTree,
        *args: Any,
        weights: Mapping[str, Array] | Array | None = None,
        update: PyTree | None = None,
    ) -> _contributions.Contributions:
        _trees.check_floating("params", params)

        def sample() -> _contributions.Contributions:
            _, (_, tally), backward = _backward.linearize(plain, params, *args)
            structure = jax.tree.structure(params)

            def by_head(rows: Sequence[Sequence[Any]]) -> dict[str, PyTree]:
                trees = (jax.tree.unflatten(structure, row) for row in rows)
                return dict(zip(backward.names, trees, strict=True))

            return _contributions.contributions(
                by_head(backward.rows()),
                weights,
                update,
                depth,
                by_head(backward.reaches()),
                tally.here(backward.names),
            )

        sampled_once = _traced.traced(sample)

        def skip() -> _contributions.Contributions:
            return jax.tree.map(
                lambda x: _numerics.full(x, jnp.nan), sampled_once.types
            )

        both = _traced.branches(sampled_once, _traced.traced(skip))
        return lax.cond(jnp.asarray(step) % every == 0, *both)

    return sampled
