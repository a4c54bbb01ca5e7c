"""README's table: what Headwise takes for a thing, and what others take for it."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from experiments.benchmarks.results import Result


class Side(NamedTuple):
    """Who computes a thing beside us, and where both stand in a result's rows."""

    name: str
    ours: tuple[str, str]
    """The form of our row, and its column of seconds."""
    theirs: Sequence[tuple[str, str]]
    """The same of theirs, of which the quickest counts."""


class Place(NamedTuple):
    """Where a thing is measured: the page, from README, and the benchmark."""

    page: str
    benchmark: str
    form: str = ""
    """The column of its rows that says who computed them, where there is one."""


class Case(NamedTuple):
    """One line of the table."""

    what: str
    place: Place
    where: Mapping[str, Any]
    """Columns and values that its rows have on both sides."""
    side: Side


class Line(NamedTuple):
    """What is shown of a case."""

    what: str
    seconds: float
    name: str
    their_seconds: float


_KERAS = Side(
    "Keras `fit`, its best",
    ("fit", "seconds"),
    [(f"Keras, {steps}", "seconds") for steps in (1, 10, 50, 200)],
)
_TORCH = Side("PyTorch, one by one", ("auto", "seconds"), [("PyTorch", "seconds")])
_MONAI = Side("MONAI", ("headwise", "seconds"), [("MONAI", "seconds")])
_JACREV = Side("`jax.jacrev`", ("head_grads", "seconds"), [("jacrev", "seconds")])
_TORCHJD = Side("TorchJD", ("", "seconds"), [("", "torchjd_seconds")])

_STEP = Place("docs/guides/fit.md#how-fast", "loop", "form")
_TRIAL = Place("docs/measured/sweeps.md#what-a-step-costs", "sweep", "form")
_LOSS = Place("docs/guides/losses.md#speed-and-memory", "losses", "way")
_HEADS = Place("docs/guides/head_gradients.md#measured", "gradients", "form")
_UPDATE = Place("docs/guides/balancers.md#what-an-update-costs", "balancers")

CASES = (
    Case("a step of training, two heads", _STEP, {"model": "mlp"}, _KERAS),
    Case("a step of training, 14 heads", _STEP, {"model": "tabular"}, _KERAS),
    Case(
        "a step of one of 32 trials, 14 heads",
        _TRIAL,
        {"model": "tabular", "trials": 32},
        _TORCH,
    ),
    Case(
        "a step of one of 16 trials, a conv net",
        _TRIAL,
        {"model": "digits", "trials": 16},
        _TORCH,
    ),
    Case(
        "Dice and cross entropy with gradient, 4 classes",
        _LOSS,
        {"loss": "dice_ce", "classes": 4, "kept": False},
        _MONAI,
    ),
    Case(
        "the same, 118 classes",
        _LOSS,
        {"loss": "dice_ce", "classes": 118, "kept": False},
        _MONAI,
    ),
    Case(
        "Dice, 16 classes, allocators that keep memory",
        _LOSS,
        {"loss": "dice", "classes": 16, "kept": True},
        _MONAI,
    ),
    Case(
        "gradients of 8 heads, a 3-D conv net",
        _HEADS,
        {"model": "conv3d", "heads": 8},
        _JACREV,
    ),
    Case(
        "gradients of 8 heads, a transformer",
        _HEADS,
        {"model": "transformer", "heads": 8},
        _JACREV,
    ),
    Case(
        "weights of 8 heads by Nash-MTL",
        _UPDATE,
        {"balancer": "nash_mtl", "heads": 8},
        _TORCHJD,
    ),
    Case(
        "weights of 8 heads by UPGrad",
        _UPDATE,
        {"balancer": "upgrad", "heads": 8},
        _TORCHJD,
    ),
    Case(
        "weights of 32 heads by UPGrad",
        _UPDATE,
        {"balancer": "upgrad", "heads": 32},
        _TORCHJD,
    ),
)


def _rows(case: Case, result: Result) -> dict[str, Mapping[str, Any]]:
    """{form: row} of what a case wants, the first of each."""
    found: dict[str, Mapping[str, Any]] = {}
    place = case.place
    if result.benchmark != place.benchmark:
        return found
    for row in result.rows:
        # Variables of the environment are those that make the allocator keep memory.
        told = {**row, "kept": bool(result.variables)}
        if all(told[key] == value for key, value in case.where.items()):
            found.setdefault(row[place.form] if place.form else "", row)
    return found


def line(case: Case, results: Sequence[Result]) -> Line:
    """What the first result that has both sides says.

    Raises:
        ValueError: None has both.
    """
    name, our, their = case.side
    for result in results:
        rows = _rows(case, result)
        # A result without the row, or without the peer, says nothing of this case.
        ours, *theirs = (rows.get(form, {}).get(at) for form, at in (our, *their))
        if ours is not None and None not in theirs:
            what = f"[{case.what}]({case.place.page})"
            return Line(what, ours, name, min(filter(None, theirs)))
    raise ValueError(f"expected a result with both sides of {case.what!r}, got none")


def lines(results: Sequence[Result]) -> list[Line]:
    """A line a case."""
    return [line(case, results) for case in CASES]
