"""The public tuples of factories: complete, and true about folders and needs."""

import inspect
import pathlib
import re

import pytest

import headwise as hw
from tests.balancers import _cases
from tests.balancers import _formulas
from tests.balancers import gramian_golden_test
from tests.balancers import scalarization_test

# What is no factory in `hw.balancers`.
OTHERS = {"Balancer", "Decision", "Names", "Signals", "presence"}
ROSTERS = ("FROM_VALUES", "FROM_GRAMIAN", "FROM_GRADIENTS", "WRAPPERS")
NEEDS = dict(zip(ROSTERS, ("values", "gramian", "grads")))
FOLDERS = dict(zip(ROSTERS, ("_values", "_gramian", "_gradients", "_wrappers")))
ROOT = pathlib.Path(hw.balancers.__file__).parent
FACTORIES = [name for roster in ROSTERS for name in getattr(hw.balancers, roster)]

# Factories whose values are worked out in a test file of their own.
WORKED_OUT_IN = {
    **dict.fromkeys(("constant", "equal", "scheduled"), "weightings_test.py"),
    "random_weighting": "random_weighting_test.py",
    "uncertainty": "uncertainty_test.py",
    **dict.fromkeys(("epo", "pmgda"), "preference_seeking_test.py"),
    **dict.fromkeys(("gradnorm", "modo", "sdmgrad"), "gramian_based_test.py"),
    **dict.fromkeys(hw.balancers.FROM_GRADIENTS, "gradient_based_test.py"),
    "graddrop": "graddrop_test.py",
}


def test_every_factory_is_in_one_roster():
    assert len(set(FACTORIES)) == len(FACTORIES)
    assert set(FACTORIES) == set(hw.balancers.__all__) - OTHERS - set(ROSTERS)


@pytest.mark.parametrize("roster", ROSTERS)
def test_every_factory_has_a_case_in_the_table_of_its_roster(roster):
    wrong = set(getattr(_cases, roster)) ^ set(getattr(hw.balancers, roster))
    assert not wrong, f"rows of {roster} in tests/balancers/_cases.py: {sorted(wrong)}"


@pytest.mark.parametrize("roster", ROSTERS)
def test_folder_is_roster(roster):
    """A factory is alone in the file of its name, in the folder of its roster."""
    for name in getattr(hw.balancers, roster):
        factory = getattr(hw.balancers, name)
        path = pathlib.Path(inspect.getfile(factory))
        assert path == ROOT / FOLDERS[roster] / f"_{name}.py"
    files = {path.stem[1:] for path in (ROOT / FOLDERS[roster]).glob("_*.py")}
    shared = files - set(getattr(hw.balancers, roster)) - {"_init__"}
    assert not shared & set(FACTORIES)


@pytest.mark.parametrize("roster", NEEDS)
def test_roster_is_what_a_factory_needs(roster):
    for name in set(getattr(hw.balancers, roster)) & set(getattr(_cases, roster)):
        assert _cases.make(name).needs == NEEDS[roster], name


def test_the_values_of_every_factory_are_worked_out_somewhere():
    """By a published value, or a formula in float64 NumPy."""
    rows = gramian_golden_test.WEIGHTS + gramian_golden_test.DIRECTIONS
    golden = {method.split()[0] for method, *_ in rows}
    formulas = {*_formulas.FORMULAS, *scalarization_test.TOTALS}
    worked_out = golden | {label.split(",")[0] for label in formulas}
    missing = (
        set(FACTORIES)
        - worked_out
        - set(WORKED_OUT_IN)
        - set(
            hw.balancers.WRAPPERS  # by hand in wrappers_test.py and its neighbours
        )
    )
    assert not missing, (
        f"no row in gramian_golden_test.py, no formula in _formulas.py, no file in "
        f"WORKED_OUT_IN: {sorted(missing)}"
    )
    here = pathlib.Path(__file__).parent
    for name, file in WORKED_OUT_IN.items():
        assert name not in golden, f"{name} has a golden row by now"
        assert re.search(rf"\b{name}\b", (here / file).read_text()), (name, file)
