"""A look at the first batch: what shapes cannot tell, and losses never look at.

The model runs once on it, forward alone, in a program of its own: the step's is as it
would be without. What is found there is listed in `headwise._look`.
"""

import functools
import logging
from typing import Any

import jax

from headwise import _checks
from headwise import _look

_LOG = logging.getLogger("headwise")


def as_step(step: Any) -> Any:
    """The step, which says so if it is none: what it is given, and must return.

    One of the library comes back as it is.
    """
    _checks.function("step", step)
    if str(getattr(step, "__module__", "")).startswith("headwise."):
        return step
    name = getattr(step, "__name__", type(step).__name__)
    expected = (
        "step: expected step(state, batch) -> (state, info), as hw.training.make_step "
        f"makes it of a values_fn; {name}(state, batch)"
    )

    @functools.wraps(step)
    def told(state: Any, batch: Any) -> tuple[Any, Any]:
        try:
            returned = step(state, batch)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise TypeError(f"{expected} raised {error!r}") from error
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise TypeError(f"{expected} returned {_checks.kind(returned)}")
        return returned

    for attribute in ("lower", "trace"):  # it is compiled already
        if hasattr(step, attribute):
            setattr(told, attribute, getattr(step, attribute))
    return told


def check_first_batch(step: Any, state: Any, batch: Any) -> None:
    """Raises ValueError if values of the first batch make no sense to a loss.

    Args:
        step: of `make_step`, jitted or not; of another function nothing is known.
        state: a `TrainState`.
        batch: as the step takes it.
    """
    values_fn = getattr(step, "values_fn", None)
    if values_fn is None:
        return
    texts: list[tuple[str, _look.Finding]] = []

    def run(params: Any, batch: Any, rest: Any, key: jax.Array) -> list[Any]:
        with _look.looking() as found:
            values_fn(params, batch, rest, key)
        texts[:] = found
        return [(f.ok, f.least, f.most) for _, f in found]

    try:
        key = jax.random.fold_in(state.key, state.step)
        results = jax.device_get(jax.jit(run)(state.params, batch, state.rest, key))
    except Exception as error:  # a jit, vmap or scan of the user's may hide the losses
        reason = (str(error) or type(error).__name__).splitlines()[0]
        _LOG.info("the first batch was not looked at: %s", reason)
        return
    for (name, found), (ok, least, most) in zip(texts, results, strict=True):
        if not ok and found.always:
            seen = found._replace(least=least, most=most)
            raise ValueError(
                f"first batch, loss of {name}: {seen.text()}; fit(check=False) takes it"
            )
