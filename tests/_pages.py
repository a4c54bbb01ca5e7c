"""Pages whose code runs and prints what they show."""

import contextlib
import io
import pathlib
import re

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page(path):
    """Runs the ```python blocks of a page, in order and in one namespace.

    What a block prints must be the ```text block that comes next; a block that prints
    without one fails, and so does a ```text block after a block that prints nothing.
    Fences of other names (```py, ```sh) are only shown.

    Returns:
        The namespace after the last block.
    """
    page = pathlib.Path(path).read_text(encoding="utf-8")
    blocks = [
        (match[1], match[2], page[: match.start()].count("\n") + 1)
        for match in _FENCE.finditer(page)
    ]
    namespace = {"__name__": "page"}
    for i, (kind, code, line) in enumerate(blocks):
        if kind != "python":
            continue
        following = blocks[i + 1 : i + 2]
        shown = following[0][1] if following and following[0][0] == "text" else ""
        printed = io.StringIO()
        # Blank lines in front give tracebacks the page's own line numbers.
        program = compile("\n" * line + code, str(path), "exec")
        with contextlib.redirect_stdout(printed):
            exec(program, namespace)
        got, expected = (
            [row.rstrip() for row in text.strip().splitlines()]
            for text in (printed.getvalue(), shown)
        )
        assert got == expected, (
            f"{path}:{line} prints\n{printed.getvalue()}\nand the page shows\n{shown}"
        )
    return namespace


def links(text):
    """The targets of Markdown links and pictures that are files; none in a block."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"\]\(([^)]+)\)", text)
    return [target.split("#")[0] for target in found if "://" not in target]
