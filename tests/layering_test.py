"""The rules of the house, read from the sources: imports go down, files stay small.

docs/architecture.md draws the floors; this is where they are enforced.
"""

import ast
import configparser
import pathlib
import re
import sys

import pytest

import headwise
from tests import _imports

LIBRARY = pathlib.Path(headwise.__file__).parent
ROOT = pathlib.Path(__file__).parents[1]

BASE = {
    "typing",
    "_figures",
    "_checks",
    "_columns",
    "_coupling",
    "_declared",
    "_described",
    "_distance",
    "_engine",
    "_files",
    "_fingerprint",
    "_frameworks",
    "_hosts",
    "_interrupts",
    "_linear_map",
    "_means",
    "_means_of_parts",
    "_look",
    "_marks",
    "_numerics",
    "_orbax",
    "_packing",
    "_products",
    "_program",
    "_provenance",
    "_records",
    "_reduction",
    "_rows",
    "_scalars",
    "_shapes",
    "_text",
    "_traced",
    "_trees",
    "_values_fn",
    "_version",
    "_weights",
    "_whole",
    "_xla",
}

# What each layer may import of the library, beside itself and the base.
ALLOWED = {
    "losses": set(),
    "metrics": set(),
    "data": set(),
    "nn": set(),
    "objective": set(),
    "solvers": set(),
    "pareto": set(),
    "gradients": set(),
    "balancers": {"solvers"},
    "training": {"balancers", "gradients", "solvers"},
    "sweeps": set(),
    # It shows what the first two compute, of folders that the last two write.
    "reports": {"pareto", "gradients", "sweeps", "training"},
}

# A layer in folders: which folders of its own layer each may import.
FOLDERS = {
    "balancers/_core": set(),
    "balancers/_values": {"_core"},
    "balancers/_gramian": {"_core", "_values"},  # IMTL is IMTL-G with IMTL-L
    "balancers/_gradients": {"_core"},
    "balancers/_wrappers": {"_core", "_values"},  # `fallback` on `equal`
    "sweeps/_design": set(),
    "sweeps/_cohort": set(),
    "sweeps/_store": {"_design"},
    "sweeps/_search": {"_design"},
    "sweeps/_slopes": {"_design", "_cohort", "_store"},  # slopes are kept there
    "sweeps/_work": {"_design", "_cohort", "_store", "_search"},
    "reports/_page": {"_given", "_groups", "_summary", "_verdict"},
}

# The porch: which folders and files of it each may import, beside the library.
PORCH = {
    "experiments/harness": set(),
    "experiments/tasks": {"experiments.harness"},
    "experiments/template.py": {"experiments.harness"},
    "experiments/main.py": {"experiments.harness"},
    "experiments/studies": {"experiments.harness", "experiments.tasks"},
    "experiments/benchmarks": {"experiments.harness", "experiments.tasks"},
    "launch": {"experiments.harness", "experiments.main"},
}

# Who looks behind the wall, and at what: benchmarks play the tricks of `_xla` off,
# and take the modes of a sweep apart.
BEHIND = {
    "experiments/benchmarks/canaries.py": {"headwise._numerics", "headwise._xla"},
    "experiments/benchmarks/harness.py": {"headwise._xla"},
    "experiments/benchmarks/sweep.py": {
        "headwise.sweeps._cohort._choice",
        "headwise.sweeps._cohort._memory",
        "headwise.sweeps._cohort._modes",
    },
}

ENGINE_ROOM = {
    "losses",
    "objective",
    "gradients",
    "solvers",
    "balancers",
    "training",
    "sweeps",
}

PRIVATE_JAX = re.compile(r"^jax(lib)?(\.\w+)*\.(_\w+|interpreters|lib)\b")
# The one primitive of the library: how it is differentiated, mapped and compiled can be
# said nowhere else. What it takes from there is exported, and the same from 0.10 on.
PRIMITIVE = "_linear_map.py"
RULES = re.compile(r"^jax\.interpreters(\.(ad|batching|mlir)(\.[a-zA-Z]\w*)?)?$")
OUTSIDE = ("experiments", "launch", "tests", "conftest")


def needed():
    """Packages that are installed with the library, by the names of their modules."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split()
    names = {re.split(r"[<>=]", line)[0] for line in lines}
    return {"orbax" if name == "orbax-checkpoint" else name for name in names}


NEEDED = needed()
OPTIONAL = {
    "absl",
    "chex",
    "grain",
    "matplotlib",
    "mlflow",
    "moocore",
    "pandas",
    "pyarrow",
    "optuna",
    "tensorboardX",
    "wandb",
}


def violations(source, path):
    """The broken rules in one file of the library, as texts.

    `path` is relative to the library: `balancers/_gramian/_mgda.py`.
    """
    parts = pathlib.PurePosixPath(path).parts
    layer = parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")
    folder = "/".join(parts[:2]) if len(parts) > 2 else ""
    broken = []
    for line, name, at_once in _imports.imports(
        source, ".".join(["headwise", *parts[:-1]])
    ):
        where = f"{path}:{line}: {name}"
        top, *rest = name.split(".")
        if top in OUTSIDE:
            broken.append(f"{where}: the library stands on its own")
        if top in OPTIONAL and at_once:
            broken.append(f"{where}: an extra is imported where it is needed")
        if name.startswith("scipy.stats") and at_once:
            broken.append(f"{where}: slow to import, so only where it is needed")
        if top == "flax" and layer != "nn":
            broken.append(f"{where}: flax is imported in nn only")
        if PRIVATE_JAX.match(name) and not (path == PRIMITIVE and RULES.match(name)):
            broken.append(f"{where}: private modules of jax change without notice")
        if top != "headwise" or layer == "__init__":
            continue
        target = rest[0] if rest else "headwise"
        allowed = BASE if layer in BASE else BASE | {layer} | ALLOWED.get(layer, set())
        if target not in allowed:
            broken.append(f"{where}: {layer} may not import {target}")
        elif target != layer and any(part.startswith("_") for part in rest[1:]):
            broken.append(f"{where}: private to {target}")
        elif target == layer and folder and len(rest) > 1:
            inner = FOLDERS.get(folder, set()) | {parts[1]}
            if rest[1] not in inner:
                broken.append(f"{where}: {folder} may not import {rest[1]}")
    for line, name in _imports.attributes(source):
        if PRIVATE_JAX.match(name):
            broken.append(f"{path}:{line}: {name}: private to jax")
    return broken


def porch_violations(source, path):
    """The broken rules in one file of experiments/ or launch/, as texts."""
    parts = pathlib.PurePosixPath(path).parts
    home = next((p for p in PORCH if path == p or path.startswith(p + "/")), None)
    if home is None:
        return [] if parts[-1] == "__init__.py" else [f"{path}: no room for it"]
    own = home.removesuffix(".py").replace("/", ".")
    broken = []
    for line, name, _ in _imports.imports(source, ".".join(parts[:-1])):
        where = f"{path}:{line}: {name}"
        top, *rest = name.split(".")
        private = any(part.startswith("_") for part in rest)
        if top == "headwise" and private and name not in BEHIND.get(path, set()):
            broken.append(f"{where}: private to the library")
        inside = any(f"{name}.".startswith(f"{a}.") for a in PORCH[home] | {own})
        if top in ("experiments", "launch", "tests") and not inside:
            broken.append(f"{where}: {home} may not import it")
    return broken


def library():
    return sorted(p.relative_to(LIBRARY).as_posix() for p in LIBRARY.rglob("*.py"))


def porch():
    return sorted(
        path.relative_to(ROOT).as_posix()
        for top in ("experiments", "launch")
        for path in (ROOT / top).rglob("*.py")
    )


def test_every_layer_has_its_rule():
    assert {path.parent.name for path in LIBRARY.glob("*/__init__.py")} == set(ALLOWED)
    assert {path.stem for path in LIBRARY.glob("*.py")} - {"__init__"} == BASE
    folders = {p.parent.relative_to(LIBRARY).as_posix() for p in LIBRARY.glob("*/*/*")}
    assert {f for f in folders if "__pycache__" not in f} == set(FOLDERS)


@pytest.mark.parametrize("path", library())
def test_file_of_the_library(path):
    source = (LIBRARY / path).read_text()
    assert violations(source, path) == []
    limit = 250 if path.split("/")[0] in ENGINE_ROOM else 400
    assert len(source.splitlines()) <= limit
    assert ast.get_docstring(ast.parse(source)), "a file says what its idea is"


@pytest.mark.parametrize("path", porch())
def test_file_of_the_porch(path):
    source = (ROOT / path).read_text()
    assert porch_violations(source, path) == []
    assert len(source.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(source)), "a file says what its idea is"


def test_files_of_tests_stay_small():
    sizes = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for path in (ROOT / "tests").rglob("*.py")
    }
    assert {path: lines for path, lines in sizes.items() if lines > 400} == {}


def modules():
    """{module of the library: modules of it that it imports at once}."""
    names = {
        ".".join(["headwise", *pathlib.PurePosixPath(path).with_suffix("").parts])
        for path in library()
    }
    edges = {}
    for path in library():
        parts = pathlib.PurePosixPath(path).parts
        name = ".".join(["headwise", *parts[:-1], parts[-1].removesuffix(".py")])
        source = (LIBRARY / path).read_text()
        edges[name] = set()
        for got in _imports.imports(source, ".".join(["headwise", *parts[:-1]])):
            if not got.at_once:
                continue
            whole, parent = got.name, got.name.rpartition(".")[0]
            for target in (whole, f"{whole}.__init__", parent, f"{parent}.__init__"):
                if target in names:
                    edges[name].add(target)
                    break
    return edges


def test_no_module_imports_itself_in_a_ring():
    edges = modules()
    assert sum(map(len, edges.values())) > 300
    assert _imports.cycle(edges) == []


def test_rings_are_seen():
    assert _imports.cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert _imports.cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        ("balancers/_x.py", "from headwise import gradients", "import gradients"),
        ("balancers/_x.py", "from headwise.gradients import gramian", "gradients"),
        ("balancers/_x.py", "def f():\n    import headwise.gradients", "gradients"),
        ("balancers/_x.py", "from ..gradients import gramian", "import gradients"),
        ("balancers/_x.py", "import headwise as hw", "may not import headwise"),
        (
            "balancers/_values/_x.py",
            "from headwise.balancers._gramian import _mgda",
            "may not import _gramian",
        ),
        (
            "balancers/_core/_x.py",
            "from headwise.balancers import _wrappers",
            "may not import _wrappers",
        ),
        ("objective/_x.py", "from headwise.losses import dice", "import losses"),
        ("nn/_x.py", "from headwise import losses", "import losses"),
        ("sweeps/_x.py", "from headwise import training", "import training"),
        ("sweeps/_x.py", "from headwise import balancers", "import balancers"),
        ("training/_x.py", "from headwise import objective", "import objective"),
        ("losses/_x.py", "from headwise import objective", "import objective"),
        ("reports/_x.py", "from headwise import losses", "import losses"),
        ("_trees.py", "from headwise import losses", "import losses"),
        ("training/_x.py", "from flax import nnx", "flax is imported in nn"),
        ("training/_x.py", "import flax.linen as nn", "flax is imported in nn"),
        ("gradients/_x.py", "from jax._src import core", "private modules of jax"),
        ("gradients/_x.py", "import jax.interpreters.ad", "private modules of jax"),
        ("gradients/_x.py", "import jax\nx = jax._src.core.Var", "private to jax"),
        ("_linear_map.py", "from jax.interpreters import xla", "private modules of"),
        ("_linear_map.py", "from jax._src.interpreters import ad", "private modules"),
        ("sweeps/_x.py", "from experiments import sweep_two", "stands on its own"),
        ("sweeps/_x.py", "import launch.slurm", "stands on its own"),
        ("training/_x.py", "from headwise.balancers import _mgda", "private to"),
        ("reports/_x.py", "import matplotlib.pyplot as plt", "an extra is imported"),
        ("data/_x.py", "if True:\n    import grain", "an extra is imported"),
        ("sweeps/_x.py", "from scipy.stats import qmc", "slow to import"),
    ],
)
def test_the_checker_finds_planted_violations(path, source, words):
    assert any(words in text for text in violations(source, path)), source


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("balancers/_x.py", "from headwise.balancers import _types\nimport jax.numpy"),
        (
            "balancers/_gramian/_x.py",
            "from headwise.balancers._core import _types\nfrom headwise import solvers",
        ),
        (
            "balancers/_x.py",
            "from headwise import _checks\nfrom headwise.typing import A",
        ),
        ("gradients/_x.py", "from jax.extend import core\nimport numpy as np"),
        ("_linear_map.py", "from jax.interpreters import ad"),
        ("training/_x.py", "from headwise import balancers, gradients"),
        ("nn/_x.py", "from flax import nnx"),
        ("reports/_x.py", "from headwise import pareto"),
        ("reports/_x.py", "def draw():\n    import matplotlib.pyplot as plt"),
        ("__init__.py", "from headwise import training as training"),
    ],
)
def test_the_checker_lets_the_rest_pass(path, source):
    assert violations(source, path) == []


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        ("experiments/x.py", "import headwise as hw", "no room for it"),
        ("experiments/harness/x.py", "import experiments.tasks.brain", "may not"),
        ("experiments/tasks/x.py", "from experiments import main", "may not import"),
        ("experiments/tasks/x.py", "from experiments.tasks import brain", None),
        ("experiments/studies/x.py", "from experiments.benchmarks import a", "may not"),
        ("launch/x.py", "from experiments.tasks import brain", "may not import it"),
        ("launch/x.py", "from experiments.harness import spec", None),
        ("launch/x.py", "from headwise.sweeps import _records", "private to"),
        ("launch/x.py", "from tests import _pages", "may not import it"),
    ],
)
def test_the_checker_of_the_porch(path, source, words):
    broken = porch_violations(source, path)
    assert (broken == []) if words is None else any(words in b for b in broken), broken


def test_what_the_library_imports_is_what_it_installs():
    outside = {
        got.name.split(".")[0]
        for path in library()
        for got in _imports.imports((LIBRARY / path).read_text(), "headwise")
    }
    outside -= {*sys.stdlib_module_names, "headwise"}
    assert outside - OPTIONAL == NEEDED
    assert OPTIONAL - outside == {"absl", "chex"}  # of the porch and of the tests
