"""Every public name is explained, with an example, in the one dialect of the house."""

import importlib
import inspect
import pathlib

import pytest

import headwise
from tests import _docstrings

ROOT = pathlib.Path(headwise.__file__).parent
LAYERS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


# Public names whose docstring has no example, each with the reason.
WITHOUT_EXAMPLE: dict[str, str] = {
    "balancers.Decision": "made by balancers; the example is that of Balancer",
    "balancers.Signals": "made by balanced_grad; the example is that of Balancer",
    "metrics.AngleHistogram": "made by normal_angles, which has the example",
    "metrics.DepthErrors": "made by depth_errors, which has the example",
    "gradients.Contributions": "made by contributions, which has the example",
    "gradients.Routing": "made by routing, which has the example",
    "data.BrainVolumes": "a record of arrays; the function that makes it has one",
    "data.Digits": "a record of arrays; the function that makes it has one",
    "data.Mni152": "a record of arrays; the function that makes it has one",
    "data.MultiMnist": "a record of arrays; the function that makes it has one",
    "data.Yeast": "a record of arrays; the function that makes it has one",
    "reports.Comparison": "made by compare, which has the example",
    "reports.front_picture": "a picture",
    "reports.weights_picture": "a picture",
    "sweeps.Slopes": "made by slopes, which has the example",
    "sweeps.StudyError": "raised by run",
    "training.Best": "made by fit; docs/guides/fit.md has the example",
    "training.BilevelDecision": "made by methods; the example is that of BilevelMethod",
    "training.BilevelInfo": "made by make_bilevel_step, which has the example",
    "training.BilevelProblem": "made by make_bilevel_step, which has the example",
    "training.BilevelState": "made by init_bilevel_state, which has the example",
    "training.Info": "made by balanced_grad, which has the example",
    "training.LossScaleState": "made by a LossScale, which has the example",
    "training.NonFiniteError": "raised by fit",
    "training.StepInfo": "made by make_step, which has the example",
    "training.TrainState": "made by make_step, which has the example",
    "training.WorkdirError": "raised by claim_workdir, which has the example",
}


def public():
    """[("layer.name", thing)] of every public function and class."""
    found = []
    for layer in LAYERS:
        module = importlib.import_module(f"headwise.{layer}")
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                found.append((f"{layer}.{name}", thing))
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_docstrings_speak_one_dialect(layer):
    wrong = []
    for name, thing in public():
        if name.split(".")[0] == layer:
            text = inspect.getdoc(thing) or ""
            wrong += _docstrings.broken(name, text, _docstrings.parameters_of(thing))
    assert wrong == []


GOOD = """Says what comes back.

Conventions: as in the paper.

Args:
    a, b: two numbers.
    *rest: more.

Returns:
    Their sum.

Example:
    >>> 1 + 1
    2

References:
    Somebody, "Something", 2020.
"""


def test_the_checker_lets_the_dialect_pass():
    assert _docstrings.broken("f", GOOD, ["a", "b", "rest"]) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Returns:\n    Their", "Returns: Their", "does not stand alone"),
        ("Returns:", "Source:", "Source is no section"),
        ("a, b: two", "a: one", "does not explain b"),
        ("*rest: more", "*rest: more\n    c: odd", "c: not there"),
        ("comes back.", "comes back", "no sentence"),
        ("Example:\n    >>> 1 + 1\n    2\n\nReferences:", "References:", None),
        ("Args:", "Raises:", "in the order"),
    ],
)
def test_the_checker_finds_what_is_not_the_dialect(old, new, words):
    text = GOOD.replace(old, new)
    assert text != GOOD
    if new == "Raises:":
        text += "\nArgs:\n    a, b: two.\n    *rest: more.\n"
    found = _docstrings.broken("f", text, ["a", "b", "rest"])
    assert (found == []) if words is None else any(words in w for w in found), found


def undocumented(layer, module):
    """Public names of a layer without docstring, or without example and excuse."""
    missing = []
    for name in module.__all__:
        thing = getattr(module, name)
        if not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        text = inspect.getdoc(thing) or ""
        # A NamedTuple or dataclass without docstring gets one made from its fields.
        if not text or text.startswith(f"{name}("):
            missing.append(f"{layer}.{name}: no docstring")
        elif ">>> " not in text and f"{layer}.{name}" not in WITHOUT_EXAMPLE:
            missing.append(f"{layer}.{name}: no example")
    return missing


@pytest.mark.parametrize("layer", LAYERS)
def test_public_names_are_explained_with_an_example(layer):
    module = importlib.import_module(f"headwise.{layer}")
    assert undocumented(layer, module) == []
    assert len(set(module.__all__)) == len(module.__all__)
    # What a layer shows beside its modules is in __all__, and so is explained.
    shown = {
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert shown <= set(module.__all__)


def test_the_allow_list_is_not_longer_than_needed():
    for entry in WITHOUT_EXAMPLE:
        layer, name = entry.split(".")
        thing = getattr(importlib.import_module(f"headwise.{layer}"), name)
        assert ">>> " not in inspect.getdoc(thing), f"{entry} has an example by now"


def test_the_explanation_checker_finds_what_is_missing():
    class Planted:
        """Says something."""

    def shown():
        """An example.

        >>> 1
        1
        """

    def silent():
        pass

    class Layer:
        __all__ = ("Planted", "shown", "silent")

    Layer.Planted, Layer.shown, Layer.silent = Planted, shown, silent
    found = undocumented("x", Layer)
    assert found == ["x.Planted: no example", "x.silent: no docstring"]
