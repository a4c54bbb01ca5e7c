"""The dialect of the library's docstrings, and what a docstring breaks of it."""

import inspect
import re

SECTIONS = ("Args", "Returns", "Raises", "Example", "References")
"""In this order, each once and alone on its line, its text indented by four."""

_HEADING = re.compile(r"^([A-Z][A-Za-z]+):(.*)$")
_OTHER_WORDS = {
    "Arguments",
    "Attributes",
    "Edges",
    "Examples",
    "Gradient",
    "Note",
    "Notes",
    "Parameters",
    "Raise",
    "Reference",
    "Return",
    "Source",
    "Sources",
    "Warning",
    "Yields",
}
"""Headings of other dialects; `Conventions:` opens a paragraph of the description."""


def sections(text):
    """{heading: its lines} of a docstring; the description under ""."""
    found, current = {"": []}, ""
    for line in text.splitlines():
        match = _HEADING.match(line)
        if match and match[1] in SECTIONS:
            current = match[1]
            found[current] = [match[2].strip()] if match[2].strip() else []
        else:
            found[current].append(line)
    return found


def broken(name, text, parameters):
    """The broken rules of one docstring, as texts.

    `parameters` are the names that `Args` must explain; none for a class.
    """
    wrong, order = [], []
    for line in text.splitlines():
        match = _HEADING.match(line)
        if not match:
            continue
        if match[1] in SECTIONS:
            order.append(match[1])
            if match[2].strip():
                wrong.append(f"{name}: {match[1]} does not stand alone on its line")
        elif match[1] in _OTHER_WORDS:
            wrong.append(f"{name}: {match[1]} is no section; {', '.join(SECTIONS)} are")
    if order != [section for section in SECTIONS if section in order]:
        wrong.append(f"{name}: sections {order}, expected in the order {SECTIONS}")
    first = text.splitlines()[0]
    if not first.rstrip("`\"'").endswith((".", "?", ":")):
        wrong.append(f"{name}: the first line is no sentence")
    explained = set()
    for line in sections(text).get("Args", []):
        match = re.match(r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*):", line)
        if match:
            explained |= {word.lstrip("*") for word in match[1].split(", ")}
    missing = [p for p in parameters if p not in explained]
    if missing:
        wrong.append(f"{name}: Args does not explain {', '.join(missing)}")
    unknown = explained - set(parameters)
    if parameters and unknown:
        wrong.append(f"{name}: Args explains {', '.join(sorted(unknown))}: not there")
    return wrong


def parameters_of(thing):
    """Names of a function's parameters."""
    if not inspect.isfunction(thing):
        return []
    return list(inspect.signature(thing).parameters)
