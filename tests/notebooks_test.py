"""Notebooks run as they stand, and what is stored of them is what they show."""

import base64
import pathlib

import pytest

from docs._site import notebooks
from tests import docs_test

SCRIPTS = [pytest.param(path, id=path.stem) for path in notebooks.scripts()]


def shown(output):
    """What a reader sees: a table, or a text, or the size of a picture."""
    data = output.get("data", output)
    kinds = ("text/html", "text/plain", "text")
    return "".join(next(data[kind] for kind in kinds if kind in data))


def without_pictures(notebook):
    """Its cells, with all that is shown as text."""
    return [
        (
            cell["cell_type"],
            "".join(cell["source"]),
            [shown(output) for output in cell.get("outputs", ())],
        )
        for cell in notebook["cells"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS)
def test_it_runs_and_shows_what_is_stored(path):
    stored, fresh = notebooks.read(path.stem), notebooks.run(path)
    for expected, got in zip(
        without_pictures(stored), without_pictures(fresh), strict=True
    ):
        assert got == expected, "make notebooks"
    assert stored | {"cells": []} == fresh | {"cells": []}


@pytest.mark.parametrize("path", SCRIPTS)
def test_it_is_small_and_its_links_lead_somewhere(path):
    file = path.with_suffix(".ipynb")
    assert file.stat().st_size < 300_000
    for name, picture in notebooks.pictures().items():
        assert 1_000 < len(base64.b64encode(picture)) < 60_000, name
    cells = notebooks.read(path.stem)["cells"]
    prose = [c for c in cells if c["cell_type"] == "markdown"]
    text = "\n\n".join("".join(cell["source"]) for cell in prose)
    assert text.startswith("# ")
    assert docs_test.broken(path, text) == []


def test_every_notebook_is_stored():
    there = {path.stem for path in notebooks.FOLDER.glob("*.ipynb")}
    assert there == {path.stem for path in notebooks.scripts()} != set()


SCRIPT = """# %% [markdown]
# # Title
#
# Prose.

# %%
import matplotlib.pyplot as plt

print("one")


class Rich:
    def __repr__(self):
        return "plain"

    def _repr_html_(self):
        return "<b>rich</b>\\n\\n<i>too</i>"


Rich()

# %%
axes = plt.subplots(figsize=(2, 1))[1]

# %%
1 / 0
"""


def test_cells_show_what_jupyter_shows(tmp_path, monkeypatch):
    path = pathlib.Path(tmp_path / "book.py")
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    path.write_text(SCRIPT)
    with pytest.raises(ZeroDivisionError) as caught:
        notebooks.run(path)
    line = SCRIPT.splitlines().index("1 / 0") + 1
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (path, line)
    path.write_text(SCRIPT.replace("1 / 0", "2"))
    notebook = notebooks.run(path)
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds == ["markdown", "code", "code", "code"]
    assert notebook["cells"][0]["source"] == ["# Title\n", "\n", "Prose."]
    first, second, third = (cell["outputs"] for cell in notebook["cells"][1:])
    assert first[0] == {"output_type": "stream", "name": "stdout", "text": ["one\n"]}
    html = ["<b>rich</b>\n", "\n", "<i>too</i>"]
    assert first[1]["data"] == {"text/plain": ["plain"], "text/html": html}
    assert second[0]["data"]["text/plain"] == ["<Figure size 144x72 with 1 Axes>"]
    assert third[0]["data"] == {"text/plain": ["2"]}

    notebooks.store(path, notebook)
    page = notebooks.page("book")
    assert page.startswith("# Title\n\nA notebook: [book.ipynb](book.ipynb)")
    assert '<div class="hw-output">\n<b>rich</b>\n<i>too</i>\n</div>' in page
    assert "![Title](book_1.png)" in page
    assert notebooks.pictures()["notebooks/book_1.png"][:4] == b"\x89PNG"
