"""The rules of the house, read from the sources: imports go down, names are explained.

Layers from the bottom: base, losses, the layers that know heads, what composes them.
"""

import ast
import importlib
import inspect
import pathlib
import re

import pytest

import headwise

ROOT = pathlib.Path(headwise.__file__).parent
BASE = {
    "typing",
    "_axes",
    "_checks",
    "_distance",
    "_files",
    "_numerics",
    "_products",
    "_reduction",
    "_text",
    "_trees",
}
MIDDLE = {"balancers", "data", "gradients", "losses", "nn", "objective"}

# What each layer may import of the library, beside itself and the base.
ALLOWED = {
    "losses": set(),
    "metrics": set(),
    "data": set(),
    "nn": {"losses"},
    "objective": set(),
    "gradients": set(),
    "balancers": {"solvers"},
    "pareto": set(),
    "solvers": set(),
    "training": MIDDLE | {"solvers"},
    "sweeps": MIDDLE,
    "reports": {"pareto", "gradients"},  # it shows what these two compute
}

FORBIDDEN = ("experiments", "launch", "tests", "conftest")
PRIVATE_JAX = re.compile(r"^jax(lib)?(\.\w+)*\.(_\w+|interpreters|lib)\b")

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
    "reports.front_picture": "a picture",
    "reports.weights_picture": "a picture",
    "training.BilevelDecision": "made by methods; the example is that of BilevelMethod",
    "training.BilevelInfo": "made by make_bilevel_step, which has the example",
    "training.BilevelProblem": "made by make_bilevel_step, which has the example",
    "training.BilevelState": "made by init_bilevel_state, which has the example",
    "training.Info": "made by balanced_grad, which has the example",
    "training.NonFiniteError": "raised by fit",
    "training.StepInfo": "made by make_step, which has the example",
    "training.TrainState": "made by make_step, which has the example",
    "training.WorkdirError": "raised by claim_workdir, which has the example",
}


def imported(source, package):
    """[(line, absolute dotted name)] of every import, also those inside functions.

    `from a import b` counts as a.b; a relative import is resolved in `package`.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            start = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*start, *filter(None, [node.module])])
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def attributes(source):
    """[(line, dotted name)] of every chain of attributes, such as jax._src.core."""
    return [
        (node.lineno, ast.unparse(node))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
    ]


def violations(source, path):
    """The broken rules in one file of the library, as texts.

    `path` is relative to the library: `balancers/_mgda.py`.
    """
    parts = pathlib.PurePosixPath(path).parts
    layer = parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")
    package = ".".join(["headwise", *parts[:-1]])
    broken = []
    for line, name in imported(source, package):
        where = f"{path}:{line}: {name}"
        top, *rest = name.split(".")
        if top in FORBIDDEN:
            broken.append(f"{where}: the library stands on its own")
        if top == "flax" and layer != "nn":
            broken.append(f"{where}: flax is imported in nn only")
        if PRIVATE_JAX.match(name):
            broken.append(f"{where}: private modules of jax change without notice")
        if top != "headwise" or layer == "__init__":
            continue
        target = rest[0] if rest else "headwise"
        allowed = BASE if layer in BASE else BASE | {layer} | ALLOWED.get(layer, set())
        if target not in allowed:
            broken.append(f"{where}: {layer} may not import {target}")
        elif target != layer and any(part.startswith("_") for part in rest[1:]):
            broken.append(f"{where}: private to {target}")
    for line, name in attributes(source):
        if PRIVATE_JAX.match(name):
            broken.append(f"{path}:{line}: {name}: private to jax")
    return broken


def sources():
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def packages():
    return sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


def test_every_layer_has_its_rule():
    assert set(packages()) <= set(ALLOWED)
    files = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    assert files <= BASE


@pytest.mark.parametrize("path", sources())
def test_file(path):
    source = (ROOT / path).read_text()
    assert violations(source, path) == []
    assert len(source.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(source)), "a file says what its idea is"


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        ("balancers/_x.py", "from headwise import gradients", "import gradients"),
        ("balancers/_x.py", "from headwise.gradients import gramian", "gradients"),
        ("balancers/_x.py", "def f():\n    import headwise.gradients", "gradients"),
        ("balancers/_x.py", "from ..gradients import gramian", "import gradients"),
        ("balancers/_x.py", "import headwise as hw", "may not import headwise"),
        ("objective/_x.py", "from headwise.losses import dice", "import losses"),
        ("sweeps/_x.py", "from headwise import training", "import training"),
        ("losses/_x.py", "from headwise import objective", "import objective"),
        ("reports/_x.py", "from headwise import sweeps", "import sweeps"),
        ("_trees.py", "from headwise import losses", "import losses"),
        ("training/_x.py", "from flax import nnx", "flax is imported in nn"),
        ("training/_x.py", "import flax.linen as nn", "flax is imported in nn"),
        ("gradients/_x.py", "from jax._src import core", "private modules of jax"),
        ("gradients/_x.py", "import jax.interpreters.ad", "private modules of jax"),
        ("gradients/_x.py", "import jax\nx = jax._src.core.Var", "private to jax"),
        ("sweeps/_x.py", "from experiments import sweep_two", "stands on its own"),
        ("sweeps/_x.py", "import launch.slurm", "stands on its own"),
        ("training/_x.py", "from headwise.balancers import _mgda", "private to"),
    ],
)
def test_the_checker_finds_planted_violations(path, source, words):
    assert any(words in text for text in violations(source, path)), source


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("balancers/_x.py", "from headwise.balancers import _types\nimport jax.numpy"),
        (
            "balancers/_x.py",
            "from headwise import _checks\nfrom headwise.typing import A",
        ),
        ("gradients/_x.py", "from jax.extend import core\nimport numpy as np"),
        ("training/_x.py", "from headwise import balancers, objective"),
        ("nn/_x.py", "from flax import nnx"),
        ("reports/_x.py", "from headwise import pareto"),
        ("__init__.py", "from headwise import training as training"),
    ],
)
def test_the_checker_lets_the_rest_pass(path, source):
    assert violations(source, path) == []


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


@pytest.mark.parametrize("layer", packages())
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
