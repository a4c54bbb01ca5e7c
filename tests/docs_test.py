"""The site: every public name and page is on it, and every link leads somewhere."""

import pathlib

import pytest
import yaml

import headwise as hw
from docs._site import dialect
from docs._site import markdown
from docs._site import names
from docs._site import pages

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
WRITTEN = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(DOCS.rglob("*.md")),
]
MADE = pages.made()


def in_nav(items):
    """The pages that a nav of MkDocs names, from the top."""
    found = []
    for item in items:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        found += in_nav(value) if isinstance(value, list) else [value]
    return found


def explained(text):
    """The names that a page asks to be explained in full."""
    return [line[4:] for line in text.splitlines() if line.startswith("::: ")]


def test_the_nav_has_every_page_once():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    found = in_nav(nav)
    assert sorted(found) == sorted({*MADE, *pages.FROM_ROOT, *_names_of_docs()})


def _names_of_docs():
    return [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]


def test_every_layer_has_its_page():
    folders = {path.parent.name for path in names.LIBRARY.glob("*/__init__.py")}
    assert set(names.LAYERS) == folders
    assert set(names.LAYERS) <= set(hw.__all__)


@pytest.mark.parametrize("layer", names.LAYERS)
def test_the_reference_explains_every_public_name_once(layer):
    found = explained(MADE[f"reference/{layer}.md"])
    expected = [f"headwise.{layer}.{name}" for name in set(names.layer(layer).__all__)]
    assert sorted(found) == sorted([f"headwise.{layer}", *expected])


def test_the_overview_leads_to_every_name():
    overview = MADE["reference/index.md"]
    for name in set(hw.__all__) - set(names.LAYERS) - {"__version__"}:
        assert f"| `hw.{name}` | [" in overview, name
    for layer in names.LAYERS:
        assert f"| [`hw.{layer}`][headwise.{layer}] | [" in overview
        for name in names.layer(layer).__all__:
            assert f"[`{name}`][headwise.{layer}.{name}]" in overview, name


@pytest.mark.parametrize("layer", names.LAYERS)
def test_every_name_is_said_in_a_sentence(layer):
    for name in names.layer(layer).__all__:
        sentence = names.first_sentence(layer, name)
        assert 10 < len(sentence) < 200, f"{layer}.{name}: {sentence}"


def broken(path, text):
    """The links of a page that lead nowhere, as written."""
    found = []
    for _, _, target in markdown.links(text):
        file, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        leads_to = path.parent / file if file else path
        if not leads_to.exists():
            found.append(target)
        elif anchor and leads_to.suffix == ".md":
            there = text if not file else leads_to.read_text(encoding="utf-8")
            if anchor not in markdown.anchors(there):
                found.append(target)
    return found


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    assert broken(path, path.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_noticed():
    text = (
        "# A `b.c`, d\n[1](#a-bc-d) [2](losses.md#losses) `[no](link.md)`\n"
        "```\n[no](link.md)\n# no\n```\n[3](#no) ![4](no.png) [5](losses.md#no)\n"
        "[`in` it][x] [6](no.md) [7](https://no)"
    )
    found = broken(DOCS / "guides" / "losses.md", text)
    assert found == ["#no", "no.png", "losses.md#no", "no.md"]


@pytest.mark.parametrize(
    ("page", "target", "expected"),
    [
        (
            "index.md",
            "docs/guides/losses.md#masks-and-nan",
            "guides/losses.md#masks-and-nan",
        ),
        ("index.md", "docs/pictures/report.png", "pictures/report.png"),
        ("index.md", "CHANGELOG.md", "changelog.md"),
        (
            "guides/data.md",
            "../../CONTRIBUTING.md#recipes",
            "../contributing.md#recipes",
        ),
        ("guides/data.md", "../../README.md", "../index.md"),
        ("guides/data.md", "fit.md", "fit.md"),
        ("guides/losses.md", "../notebooks/a_study.ipynb", "../notebooks/a_study.md"),
        ("guides/data.md", "../measured/sweeps.md", "../measured/sweeps.md"),
        ("guides/data.md", "#here", "#here"),
        ("guides/data.md", "https://elsewhere", "https://elsewhere"),
        ("index.md", "launch/plan.py", "REPOSITORY/blob/main/launch/plan.py"),
    ],
)
def test_links_of_the_repository_lead_to_the_site(page, target, expected):
    expected = expected.replace("REPOSITORY", pages.repository())
    assert pages.target_on_site(page, target) == expected


DOCSTRING = """The least of a * b, [B, C].

With p < 1 and `g`, where see `f`::

    loss[b] = *p*

* one;
* `other`.

==== ======
name what
==== ======
x    a|b
==== ======

Args:
    g, *more: as `g`:
        - indented [B].

Raises:
    ValueError, TypeError: shapes.

Example:
    >>> print("<a>")
    <a>
"""

MARKDOWN = """The least of a \\* b, \\[B, C\\].

With p \\< 1 and [`g`][x.g], where see `f`:

```text
loss[b] = *p*
```

* one;
* `other`.

| name | what |
| --- | --- |
| x | a\\|b |

Args
{ .hw-section }

- `g`, `*more`: as [`g`][x.g]:

    - indented \\[B\\].

Raises
{ .hw-section }

- `ValueError`, `TypeError`: shapes.

Example
{ .hw-section }

```pycon
>>> print("<a>")
<a>
```
"""


def test_docstrings_become_markdown():
    made = dialect.to_markdown(DOCSTRING, {"g": "x.g"}.get)
    assert [line.rstrip() for line in made.splitlines()] == MARKDOWN.splitlines()
