"""Optimisers and balancers as functions of a trial, and the trial as arrays."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from headwise import _checks
from headwise.typing import Array

Check = Callable[[str, Any], None]
Trial = dict[str, Any]
"""{"weights": {head: float32 []}, "seed": int32 [], NAME: float32 []}."""


def arrays(trial: Any) -> Trial:
    """The trial as arrays of its own types.

    Raises:
        TypeError: it is no dict that has weights and a seed. ValueError: one of its
            numbers is no scalar.
    """
    if not isinstance(trial, Mapping) or not {"weights", "seed"} <= set(trial):
        names = f"a dict of {[*trial]}" if isinstance(trial, Mapping) else ""
        raise TypeError(
            'trial: expected {"weights": {head: scalar}, "seed": int, NAME: scalar}, '
            f"got {names or _checks.kind(trial)}"
        )
    _checks.mapping("trial['weights']", trial["weights"])
    _checks.label("trial['seed']", trial["seed"])
    own = {n: x for n, x in trial.items() if n not in ("weights", "seed")}
    return {
        "weights": _numbers("trial['weights']", trial["weights"]),
        "seed": jnp.asarray(trial["seed"], jnp.int32),
        **_numbers("trial", own),
    }


def _numbers(argument: str, got: Mapping[str, Any]) -> dict[str, Array]:
    rows = {n: _checks.scalar(f"{argument}[{n!r}]", x) for n, x in got.items()}
    return {n: x.astype(jnp.float32) for n, x in rows.items()}


def of_trial(argument: str, given: Any, check: Check) -> Callable[[Trial], Any]:
    """What the argument is for a trial: itself, or what a function of the trial makes.

    Args:
        argument: its name, for errors.
        given: an object that passes the check, or a function of the trial.
        check: `check(argument, object)` raises for what it is not.

    Raises:
        TypeError: it is neither. When it is called: the function makes something else,
            or wants a number of Python where the trial has an array.
        ValueError: when it is called: the function asks for what the trial has not.
    """
    if not is_function(given):
        check(argument, given)
        return lambda trial: given
    _checks.takes(argument, given, "trial")

    def made(trial: Trial) -> Any:
        try:
            got = given(trial)
        except KeyError as error:
            _refuse_name(argument, error, trial)
            raise
        except (TypeError, ValueError, OverflowError) as error:
            # JAX's own words for a traced number that is made Python's are a page.
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise TypeError(
                f"{argument}: cannot be made of a trial, whose numbers are arrays: "
                f"{said[:300]}; what must be a number of Python is named in static= of "
                "hw.sweeps.run, which makes a program of each"
            ) from error
        check(f"{argument}(trial)", got)
        return got

    return made


def is_function(given: Any) -> bool:
    """Whether it is a function of a trial, and no factory that was not called."""
    if isinstance(given, type) or not callable(given) or hasattr(given, "init"):
        return False
    package = str(getattr(given, "__module__", "")).partition(".")[0]
    local = "<" in getattr(given, "__qualname__", "")
    return local or package not in ("optax", "headwise")


def _refuse_name(argument: str, error: KeyError, trial: Trial) -> None:
    """Raises ValueError if the error says that the trial has no such number."""
    (name,) = error.args or (None,)
    if isinstance(name, str) and name not in trial:
        raise ValueError(
            f"{argument}: asks the trial for {name!r}, which has "
            f"{_checks.listing([*trial, *trial['weights']])}; "
            f"hw.sweeps.run(vary={{{name!r}: [...]}}) gives it one"
        ) from error
