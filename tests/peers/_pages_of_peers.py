"""A page about coming from a peer, and what was recorded of that peer."""

import json
import pathlib
import re

HERE = pathlib.Path(__file__).parent
DOCS = HERE.parents[1] / "docs"


def record(name):
    """What `record_NAME.py` wrote."""
    return json.loads((HERE / f"{name}.json").read_text())


def rows(text, first):
    """The cells of a Markdown table, from the row after the one that begins so."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(first):
            break
    else:
        raise AssertionError(f"no table begins with {first}")
    next(lines)  # |---|
    found = []
    for line in lines:
        if not line.startswith("|"):
            return found
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def quoted(cell):
    """The names between backticks, without what they are called with."""
    return [re.split(r"[(.\[ ]", text)[0] for text in re.findall("`([^`]+)`", cell)]
