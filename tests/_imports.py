"""What a Python file imports, read off its source."""

import ast
from typing import NamedTuple


class Import(NamedTuple):
    """One imported name."""

    line: int
    name: str
    """Absolute and dotted; `from a import b` counts as a.b."""
    at_once: bool
    """Neither in a function nor for a type checker: when the file is imported."""


def imports(source, package):
    """[Import] of a source; a relative import is resolved in `package`."""
    collected = []

    def visit(node, at_once):
        if isinstance(node, ast.Import):
            collected.extend(Import(node.lineno, a.name, at_once) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            start = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*start, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{module}.{alias.name}"
                collected.append(Import(node.lineno, name, at_once))
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        for child in ast.iter_child_nodes(node):
            visit(child, at_once and not inside)

    visit(ast.parse(source), True)
    return collected


def attributes(source):
    """[(line, dotted name)] of every chain of attributes, such as jax._src.core."""
    return [
        (node.lineno, ast.unparse(node))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
    ]


def cycle(edges):
    """Names that import one another in a ring, [] if there are none.

    `edges` is {name: names that it imports}.
    """
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        for other in sorted(edges.get(name, ())):
            ring = visit(other)
            if ring:
                return ring
        done.add(path.pop())
        return []

    for name in sorted(edges):
        ring = visit(name)
        if ring:
            return ring
    return []
