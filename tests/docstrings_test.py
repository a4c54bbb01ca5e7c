"""Every public name's docstring speaks the one dialect of the house."""

import importlib
import inspect
import pathlib

import pytest

import headwise
from tests import _docstrings

ROOT = pathlib.Path(headwise.__file__).parent


def public():
    """[("layer.name", thing)] of every public function and class."""
    found = []
    for path in sorted(ROOT.glob("*/__init__.py")):
        module = importlib.import_module(f"headwise.{path.parent.name}")
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                found.append((f"{path.parent.name}.{name}", thing))
    return found


@pytest.mark.parametrize("layer", sorted({n.split(".")[0] for n, _ in public()}))
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
