"""Notebooks: scripts in cells, what they show when they run, their pages on the site.

python -m docs._site.notebooks            # runs all and stores what they show
python -m docs._site.notebooks a_study    # one of them

`docs/notebooks/NAME.py` is the source, in cells that begin with `# %%` (what Jupytext,
VS Code and PyCharm call percent format). `NAME.ipynb` is made of it.
"""

import ast
import base64
import contextlib
import io
import json
import pathlib
import re
import sys
import textwrap
from typing import Any
from typing import NamedTuple

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
_CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)


class Cell(NamedTuple):
    """A cell of a script."""

    kind: str
    """"code" or "markdown"."""
    source: str
    line: int
    """Of the script, where the source begins."""


def scripts() -> list[pathlib.Path]:
    """The sources of all notebooks."""
    return sorted(FOLDER.glob("*.py"))


def cells(text: str) -> list[Cell]:
    """The cells of a script; all of it must stand in one."""
    _, *parts = _CELL.split(text)
    found, line = [], 1
    for markdown, source in zip(parts[::2], parts[1::2]):
        kind = "markdown" if markdown else "code"
        plain = re.sub(r"^# ?", "", source, flags=re.MULTILINE) if markdown else source
        found.append(Cell(kind, plain.strip("\n"), line + 1))
        line += 1 + source.count("\n")
    return found


def run(path: pathlib.Path) -> dict[str, Any]:
    """Runs a script cell by cell; the notebook, with what Jupyter would show."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    made: list[dict[str, Any]] = []
    count = 0
    for i, cell in enumerate(cells(path.read_text(encoding="utf-8"))):
        entry = {
            "cell_type": cell.kind,
            "id": f"cell-{i}",
            "metadata": {},
            "source": cell.source.splitlines(keepends=True),
        }
        if cell.kind == "code":
            count += 1
            shown = _shown(cell, path, namespace, count)
            entry |= {"execution_count": count, "outputs": shown}
        made.append(entry)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def _shown(
    cell: Cell, path: pathlib.Path, namespace: dict[str, Any], count: int
) -> list[dict[str, Any]]:
    """What is printed, the value of the last expression, then open figures."""
    # Empty lines in front give tracebacks the script's own line numbers.
    program = ast.parse("\n" * (cell.line - 1) + cell.source, str(path))
    last = program.body.pop() if isinstance(program.body[-1], ast.Expr) else None
    printed, value, outputs = io.StringIO(), None, []
    with contextlib.redirect_stdout(printed):
        exec(compile(program, str(path), "exec"), namespace)
        if isinstance(last, ast.Expr):
            code = compile(ast.Expression(last.value), str(path), "eval")
            value = eval(code, namespace)
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines})
    if value is not None:
        result = {"output_type": "execute_result", "execution_count": count}
        outputs.append(result | {"data": _representations(value), "metadata": {}})
    return outputs + [
        {"output_type": "display_data", "data": data, "metadata": {}}
        for data in _figures()
    ]


def _representations(value: Any) -> dict[str, list[str]]:
    found = {"text/plain": repr(value)}
    if hasattr(value, "_repr_html_"):
        found["text/html"] = value._repr_html_()
    return {kind: text.splitlines(keepends=True) for kind, text in found.items()}


def _figures() -> list[dict[str, Any]]:
    """The figures that a cell left open, which are closed then."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    import matplotlib.pyplot as plt

    found = []
    for number in plt.get_fignums():
        file, figure = io.BytesIO(), plt.figure(number)
        figure.savefig(file, format="png", dpi=72, metadata={"Software": None})
        picture = base64.b64encode(file.getvalue()).decode()
        size = "x".join(f"{72 * inches:.0f}" for inches in figure.get_size_inches())
        plain = [f"<Figure size {size} with {len(figure.axes)} Axes>"]
        found.append({"image/png": picture, "text/plain": plain})
        plt.close(figure)
    return found


def store(path: pathlib.Path, notebook: dict[str, Any]) -> int:
    """Writes what `run` made beside the script; how many bytes."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    return path.with_suffix(".ipynb").write_text(f"{text}\n", encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    """A stored notebook."""
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def pages() -> dict[str, str]:
    """{page of the site: its Markdown} of the stored notebooks."""
    return {f"notebooks/{path.stem}.md": page(path.stem) for path in scripts()}


def page(name: str) -> str:
    """A stored notebook as Markdown: its cells, and what they show below them."""
    parts, number, heading = [], 0, ""
    for cell in read(name)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            heading = (re.findall(r"^#+ (.+)", source, re.MULTILINE) or [heading])[-1]
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                number += 1
                parts.append(f"![{heading}]({name}_{number}.png)")
            elif "text/html" in data:
                parts.append(_html("".join(data["text/html"])))
            else:
                text = "".join(output.get("text") or data["text/plain"])
                parts.append(f"```text\n{text.rstrip()}\n```")
    title, _, rest = parts[0].partition("\n")
    where = f"A notebook: [{name}.ipynb]({name}.ipynb), made of [{name}.py]({name}.py)."
    return "\n\n".join([title, where, rest.strip(), *parts[1:]]) + "\n"


def _html(text: str) -> str:
    """As one block of Markdown: without empty lines, which would end it."""
    lines = [line for line in textwrap.dedent(text).splitlines() if line.strip()]
    return '<div class="hw-output">\n' + "\n".join(lines) + "\n</div>"


def pictures() -> dict[str, bytes]:
    """{file of the site: PNG} of the stored notebooks."""
    found = {}
    for path in scripts():
        shown = [
            output["data"]["image/png"]
            for cell in read(path.stem)["cells"]
            for output in cell.get("outputs", ())
            if "image/png" in output.get("data", {})
        ]
        for number, picture in enumerate(shown, 1):
            file = f"notebooks/{path.stem}_{number}.png"
            found[file] = base64.b64decode(picture)
    return found


if __name__ == "__main__":
    for script in scripts():
        if script.stem in (sys.argv[1:] or [script.stem]):
            size = store(script, run(script))
            print(f"{script.stem}.ipynb: {size / 1000:.0f} kB")
