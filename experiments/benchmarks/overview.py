"""README's table: what Headwise takes for a thing, and what others take for it."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from experiments.benchmarks.results import Result


class Case(NamedTuple):
    """One line: one row for ours, and one or more for theirs, of one run."""

    what: str
    page: str
    """Where it is measured in full, from README."""
    benchmark: str
    where: Mapping[str, Any]
    """Columns and values that all of its rows have."""
    ours: tuple[str, str]
    """The form of our row, and its column of seconds."""
    theirs: tuple[tuple[str, str], ...]
    """The same of the other ones, of which the quickest counts."""
    name: str


class Line(NamedTuple):
    """What is shown of a case."""

    what: str
    seconds: float
    name: str
    their_seconds: float


_KERAS = (
    ("fit", "seconds"),
    tuple((f"Keras, {steps}", "seconds") for steps in (1, 10, 50, 200)),
    "Keras `fit`, its best",
)
_TORCH = (("auto", "seconds"), (("PyTorch", "seconds"),), "PyTorch, one by one")
_MONAI = (("headwise", "seconds"), (("MONAI", "seconds"),), "MONAI")
_JACREV = (("head_grads", "seconds"), (("jacrev", "seconds"),), "`jax.jacrev`")
_TORCHJD = (("", "seconds"), (("", "torchjd_seconds"),), "TorchJD")

_STEP = ("docs/fit.md#how-fast", "loop")
_TRIAL = ("docs/sweeps.md#what-a-step-costs", "sweep")
_LOSS = ("docs/losses.md#speed-and-memory", "losses")
_HEADS = ("docs/head_gradients.md#measured", "gradients")
_UPDATE = ("docs/balancers.md#what-an-update-costs", "balancers")

_FORM = {"loop": "form", "sweep": "form", "gradients": "form", "losses": "way"}
"""The column that says who computed a row, where there is one."""

CASES = (
    Case("a step of training, two heads", *_STEP, {"model": "mlp"}, *_KERAS),
    Case("a step of training, 14 heads", *_STEP, {"model": "tabular"}, *_KERAS),
    Case(
        "a step of one of 32 trials, 14 heads",
        *_TRIAL,
        {"model": "tabular", "trials": 32},
        *_TORCH,
    ),
    Case(
        "a step of one of 16 trials, a conv net",
        *_TRIAL,
        {"model": "digits", "trials": 16},
        *_TORCH,
    ),
    Case(
        "Dice and cross entropy with gradient, 4 classes",
        *_LOSS,
        {"loss": "dice_ce", "classes": 4, "kept": False},
        *_MONAI,
    ),
    Case(
        "the same, 118 classes",
        *_LOSS,
        {"loss": "dice_ce", "classes": 118, "kept": False},
        *_MONAI,
    ),
    Case(
        "Dice, 16 classes, allocators that keep memory",
        *_LOSS,
        {"loss": "dice", "classes": 16, "kept": True},
        *_MONAI,
    ),
    Case(
        "gradients of 8 heads, a 3-D conv net",
        *_HEADS,
        {"model": "conv3d", "heads": 8},
        *_JACREV,
    ),
    Case(
        "gradients of 8 heads, a transformer",
        *_HEADS,
        {"model": "transformer", "heads": 8},
        *_JACREV,
    ),
    Case(
        "weights of 8 heads by Nash-MTL",
        *_UPDATE,
        {"balancer": "nash_mtl", "heads": 8},
        *_TORCHJD,
    ),
    Case(
        "weights of 8 heads by UPGrad",
        *_UPDATE,
        {"balancer": "upgrad", "heads": 8},
        *_TORCHJD,
    ),
    Case(
        "weights of 32 heads by UPGrad",
        *_UPDATE,
        {"balancer": "upgrad", "heads": 32},
        *_TORCHJD,
    ),
)


def _rows(case: Case, result: Result) -> dict[str, Mapping[str, Any]]:
    """{form: row} of what a case wants, the first of each."""
    found: dict[str, Mapping[str, Any]] = {}
    if result.benchmark != case.benchmark:
        return found
    form = _FORM.get(case.benchmark)
    for row in result.rows:
        # Variables of the environment are those that make the allocator keep memory.
        told = {**row, "kept": bool(result.variables)}
        if all(told[key] == value for key, value in case.where.items()):
            found.setdefault(row[form] if form else "", row)
    return found


def line(case: Case, results: Sequence[Result]) -> Line:
    """What the first result that has both sides says.

    Raises:
        ValueError: None has both.
    """
    for result in results:
        rows = _rows(case, result)
        pairs = [(rows.get(form), column) for form, column in (case.ours, *case.theirs)]
        if all(row is not None and row[column] is not None for row, column in pairs):
            ours, *theirs = (row[column] for row, column in pairs if row is not None)
            return Line(f"[{case.what}]({case.page})", ours, case.name, min(theirs))
    raise ValueError(f"expected a result with both sides of {case.what!r}, got none")


def lines(results: Sequence[Result]) -> list[Line]:
    """A line a case."""
    return [line(case, results) for case in CASES]
