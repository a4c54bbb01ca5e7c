"""The public names of the library, read from each layer's `__all__`."""

import ast
import importlib
import inspect
import itertools
import pathlib
import re
import types

import headwise

LIBRARY = pathlib.Path(headwise.__file__).parent

LAYERS = (
    "objective",
    "losses",
    "metrics",
    "gradients",
    "balancers",
    "training",
    "sweeps",
    "reports",
    "pareto",
    "nn",
    "data",
    "solvers",
)
"""In the order of the reference: what a newcomer needs first."""


def layer(name: str) -> types.ModuleType:
    """The module of a layer."""
    return importlib.import_module(f"headwise.{name}")


def identifiers() -> dict[str, str]:
    """{name as users write it, without "hw.": where the reference explains it}.

    Names at the top, such as `Objective`, are those of their layers.
    """
    found = {name: f"headwise.{name}" for name in LAYERS}
    explained = {}
    for name in LAYERS:
        for word in layer(name).__all__:
            found[f"{name}.{word}"] = f"headwise.{name}.{word}"
            explained[id(getattr(layer(name), word))] = f"headwise.{name}.{word}"
    for word in headwise.__all__:
        thing = getattr(headwise, word)
        if not inspect.ismodule(thing) and id(thing) in explained:
            found[word] = explained[id(thing)]
    return found


def in_order(words: list[str]) -> list[str]:
    """Functions before the types that they take and return; each by the alphabet."""
    return sorted(words, key=lambda word: (not word[0].islower(), word.lower()))


def groups(name: str) -> dict[str, list[str]]:
    """{title: public names} of a layer's page; a layer without groups has title ""."""
    module = layer(name)
    words = list(dict.fromkeys(module.__all__))
    if name != "balancers":
        return {"": in_order(words)}
    kinds = {
        "From values": list(module.FROM_VALUES),
        "From the gramian": list(module.FROM_GRAMIAN),
        "From the gradients": list(module.FROM_GRADIENTS),
        "Around another balancer": list(module.WRAPPERS),
    }
    of_a_kind = {word for kind in kinds.values() for word in kind}
    rest = [word for word in words if word not in of_a_kind]
    return {**kinds, "What they are made of": in_order(rest)}


def is_class(name: str, word: str) -> bool:
    """Whether a name is a type, whose fields are explained with it."""
    return inspect.isclass(getattr(layer(name), word))


def first_sentence(name: str, word: str) -> str:
    """What a name is, in one sentence."""
    thing = getattr(layer(name), word)
    if inspect.isclass(thing) or inspect.isroutine(thing):
        text = inspect.getdoc(thing) or ""
    else:
        text = _docstring_below(name, word)
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.?]) (?=[A-Z`])", paragraph)[0].rstrip(":")


def _docstring_below(name: str, word: str) -> str:
    """The string below an assignment in the layer's `__init__`."""
    body = ast.parse((LIBRARY / name / "__init__.py").read_text(encoding="utf-8")).body
    for statement, below in itertools.pairwise(body):
        if (
            isinstance(statement, ast.Assign)
            and ast.unparse(statement.targets[0]) == word
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            return str(below.value.value)
    return ""
