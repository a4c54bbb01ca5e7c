"""Where experiments are: the files of tasks/ by name, a user's own file by its path.

Names are read off the folder and a file is imported when it is asked for.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import os
import pathlib
import sys
from types import ModuleType

from experiments.harness import text
from experiments.harness.spec import Spec
from experiments.harness.text import UsageError

RESERVED = ("balancer", "experiment", "seed", "smoke", "steps", "weights")
"""What a record says of every run; no setting may have such a name."""
TASKS = pathlib.Path(__file__).parents[1] / "tasks"


def names() -> list[str]:
    """The experiments of this project."""
    return sorted(path.stem for path in TASKS.glob("[!_]*.py"))


def is_path(experiment: str) -> bool:
    """Whether an experiment is given by its file and not by its name."""
    return experiment.endswith(".py") or os.sep in experiment


def title(experiment: str) -> str:
    """The name: of one that is given by its file, the file's."""
    return pathlib.Path(experiment).stem if is_path(experiment) else experiment


def question(docstring: str | None) -> str:
    """The first sentence of a file's docstring, which is what it asks."""
    return " ".join((docstring or "").split("\n\n")[0].split())


def listing() -> str:
    """Every experiment with its question, read without importing any."""
    lines = []
    for name in names():
        tree = ast.parse((TASKS / f"{name}.py").read_text(encoding="utf-8"))
        asked = question(ast.get_docstring(tree)).removeprefix("Question: ")
        lines.append(f"  --experiment={name:<16} {asked}")
    return "\n".join(lines)


def load(experiment: str | None) -> ModuleType:
    """The module of an experiment, which has `SPEC` and `build(settings)`.

    Raises:
        UsageError: no such name or file, or the file has no SPEC or build.
    """
    if experiment is not None and is_path(experiment):
        path = pathlib.Path(experiment)
        if not os.path.isfile(path):  # False also of a name that is too long
            raise UsageError(f"--experiment: no such file: {experiment}")
        if path.suffix != ".py":
            raise UsageError(
                f"--experiment: expected NAME or FILE.py, got {experiment}"
            )
        module = _imported(path.resolve())
    else:
        name = text.choice("--experiment", names(), experiment)
        module = importlib.import_module(f"experiments.tasks.{name}")
    _check(str(experiment), module)
    return module


def source(module: ModuleType) -> str:
    """A hash of an experiment's file: which text made a run."""
    return hashlib.sha256(pathlib.Path(module.__file__ or "").read_bytes()).hexdigest()


@functools.cache
def _imported(path: pathlib.Path) -> ModuleType:
    """Imports a file outside the project; as for a script, its folder is importable."""
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    try:
        compile(path.read_bytes(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OSError) as error:  # ValueError: a binary
        raise UsageError(f"--experiment={path}: no Python: {error}") from None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _check(experiment: str, module: ModuleType) -> None:
    """A UsageError that says what the file of an experiment lacks."""
    spec = getattr(module, "SPEC", None)
    if not isinstance(spec, Spec):
        raise UsageError(
            f"--experiment={experiment}: expected SPEC = Spec(...) in it; "
            "experiments/template.py shows how"
        )
    if not callable(getattr(module, "build", None)):
        raise UsageError(
            f"--experiment={experiment}: expected a function build(settings) in it; "
            "experiments/template.py shows how"
        )
    if not set(spec.front) <= set(spec.metrics):
        raise UsageError(
            f"--experiment={experiment}: SPEC.front: expected two of "
            f"{', '.join(spec.metrics)}; got {', '.join(spec.front)}"
        )
    for name, value in spec.defaults.items():
        if name in RESERVED or not isinstance(value, bool | int | float | str):
            raise UsageError(
                f"--experiment={experiment}: SPEC.defaults: expected a bool, int, "
                f"float or str, and none called {', '.join(RESERVED)}; got "
                f"{name}={value!r}"
            )
