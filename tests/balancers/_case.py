"""What a row of the table of cases is, and options for heads of any names."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import optax

import headwise as hw
from tests.balancers import _bad

NAMES = ("a", "b", "c")


@dataclasses.dataclass(frozen=True)
class Case:
    """A balancer for some heads, by their names, and what it must be shown."""

    options: Callable[[tuple[str, ...]], dict] = lambda names: {}
    """The options, all by keyword, for heads of these names."""
    bad: dict[str, _bad.Bad] = dataclasses.field(default_factory=dict)
    """What every parameter of the factory refuses."""
    signals: tuple[str, ...] = ()
    """What must be there beside the values."""
    signed: bool = False
    """Weights may be negative."""
    random: bool = False
    """Draws by the position of a head: equal in distribution when heads are renamed or
    absent, which its own test shows."""
    primary: str = ""
    """A head without which it does nothing."""
    label: str = ""
    """Pattern of the name in its errors, if not its own: an inner balancer's."""
    params: bool = False
    """Its state is shaped like the params, which `init` must be given."""


# What a head gets goes by the last letter of its name, so that heads can be renamed.
RAMP = optax.linear_schedule(0.5, 2.0, 10)
WEIGHTS = {"a": 0.5, "b": 1.5, "c": 2.5}
SCHEDULES = {"a": 0.5, "b": RAMP, "c": optax.cosine_decay_schedule(3.0, 10)}
LEAK = {"a": 0.0, "b": 0.25, "c": 0.5}
KINDS = {"a": "regression", "b": "classification", "c": "regression"}
PREFERENCES = {"a": 0.5, "b": 2.0, "c": 1.0}
REFERENCE = {"a": 0.1, "b": -0.2, "c": 0.3}


def by_letter(options, names):
    return {name: options[name[-1]] for name in names}


def fixed(**options):
    """The same options for any heads."""
    return lambda names: dict(options)


def wanted(names):
    """Preferences for every head."""
    return {"preferences": by_letter(PREFERENCES, names)}


def wanted_from(names):
    """Preferences and a reference point."""
    return wanted(names) | {"reference": by_letter(REFERENCE, names)}


def around_mgda(**options):
    return fixed(balancer=hw.balancers.mgda(), **options)


def sum_of_squares(values, preferences, present):
    return jnp.sum(jnp.where(present, preferences * values**2, 0.0))
