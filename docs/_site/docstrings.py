"""A griffe extension: every docstring of the library becomes Markdown."""

import functools
import pathlib
from typing import Any

import griffe

from docs._site import dialect
from docs._site import names
from docs._site import pages


class Dialect(griffe.Extension):
    """Rewrites docstrings when the package has been read; adds where the source is."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Called once, with the whole tree."""
        del kwargs
        known = names.identifiers()
        for thing in _things(pkg):
            if thing.docstring:
                resolve = functools.partial(_resolve, thing=thing, known=known)
                thing.docstring.value = dialect.to_markdown(
                    thing.docstring.value, resolve
                ) + _source(thing)


def _things(thing: griffe.Object) -> list[griffe.Object]:
    found = [thing]
    for member in thing.members.values():
        if not member.is_alias:
            found += _things(member)
    return found


def _resolve(word: str, thing: griffe.Object, known: dict[str, str]) -> str | None:
    """Of the whole library if it begins with `hw.`, else of the docstring's layer."""
    if word.startswith("hw."):
        return known.get(word.removeprefix("hw."))
    own = {parameter.name for parameter in getattr(thing, "parameters", ())}
    layer = thing.path.split(".")[1:2]
    if word == thing.name or word in own or not layer:
        return None
    return known.get(word) if "." in word else known.get(f"{layer[0]}.{word}")


def _source(thing: griffe.Object) -> str:
    """A line that leads to the function or class in the repository."""
    if not (thing.is_function or thing.is_class) or not thing.parent.is_module:
        return ""
    path = pathlib.Path(thing.filepath).relative_to(pages.ROOT)
    name = path.relative_to("research")
    return (
        f"\n[{name}]({pages.repository()}/blob/main/{path}#L{thing.lineno})"
        "{ .hw-source }\n"
    )
