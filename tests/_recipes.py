"""The recipes of CONTRIBUTING.md, followed on a copy of the checkout.

A recipe is a section with fenced blocks. A block ```python PATH is a new file; a block
```diff whose first line is `+++ PATH` adds its `+` lines below its other lines, which
must stand in the file once; ```sh holds the commands that check the result.
"""

import pathlib
import re
import shutil

_BLOCK = re.compile(r"^```(\w+)(?: ([\w./-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def recipes(text):
    """{title: section} of the second-level sections whose title starts with "Add"."""
    parts = re.split(r"^### (Add .*)$", text, flags=re.MULTILINE)
    ends = [re.split(r"^#{1,3} ", body, flags=re.MULTILINE)[0] for body in parts[2::2]]
    return dict(zip(parts[1::2], ends, strict=True))


def copy(root, folder):
    """What a recipe needs of a checkout: the folders, and the files beside them.

    With their times, so that byte code that is there stands for them.
    """
    leave = shutil.ignore_patterns("*.egg-info")
    for name in ("research", "experiments", "launch", "tests", "docs"):
        shutil.copytree(root / name, folder / name, ignore=leave)
    for path in root.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy2(path, folder / path.name)


def follow(section, folder):
    """Makes and edits the files as the recipe says; returns its commands."""
    commands = []
    for kind, path, block in _BLOCK.findall(section):
        if kind == "python" and path:
            target = folder / path
            assert not target.exists(), f"{path} is there already"
            target.write_text(block)
        elif kind == "diff":
            edit(folder, block)
        elif kind == "sh":
            commands += [line for line in block.splitlines() if line.strip()]
    return commands


def edit(folder, block):
    """Applies one ```diff block."""
    head, *lines = block.splitlines()
    assert head.startswith("+++ "), f"a diff starts with `+++ PATH`, not {head!r}"
    target = folder / head.removeprefix("+++ ")
    text = target.read_text()
    before = "".join(line[1:] + "\n" for line in lines if not line.startswith("+"))
    after = "".join(line[1:] + "\n" for line in lines)
    places = [m.start() for m in re.finditer(re.escape(before), text)]
    places = [i for i in places if i == 0 or text[i - 1] == "\n"]
    assert len(places) == 1, f"{target}: {before!r} stands there {len(places)} times"
    pathlib.Path(target).write_text(
        text[: places[0]] + after + text[places[0] + len(before) :]
    )
