"""The pages of the site that are no files of docs/, and where links lead."""

import configparser
import pathlib
import posixpath
import re

from docs._site import dialect
from docs._site import markdown
from docs._site import names
from docs._site import notebooks

ROOT = pathlib.Path(__file__).parents[2]

WIDE = ("index.md", "pictures.md", "changelog.md")
"""Pages without a list of pages beside them."""

FROM_ROOT = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages of the site whose text stands at the top of the repository."""


def repository() -> str:
    """Where the sources are, as setup.cfg says."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["metadata"]["project_urls"].strip().splitlines()
    return dict(line.split(" = ") for line in lines)["Source"]


def written() -> dict[str, str]:
    """{page of the site: its file in the repository} of all that people write."""
    docs = ROOT / "docs"
    files = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    return {**FROM_ROOT, **{name: f"docs/{name}" for name in files}}


def made() -> dict[str, str]:
    """{page of the site: Markdown} of all that is made from something else."""
    return {
        "reference/index.md": _overview(),
        **{f"reference/{name}.md": reference(name) for name in names.LAYERS},
        "measured/index.md": _measured(),
        "pictures.md": _pictures(),
        **notebooks.pages(),
    }


def reference(name: str) -> str:
    """The page of a layer: what it is, a table of its names, then each of them."""
    title = f"# hw.{name} {{ #headwise.{name} }}"
    text = [title, f"::: headwise.{name}\n    options:\n      members: false"]
    groups = names.groups(name)
    for title, words in groups.items():
        if title:
            text.append(f"## {title}")
        text.append(_table(name, words))
        for word in words:
            level = 3 if title else 2
            text.append(
                f"::: headwise.{name}.{word}\n    options:\n"
                f"      heading: hw.{name}.{word}\n      toc_label: {word}\n"
                f"      heading_level: {level}\n      show_root_heading: true\n"
                f"      show_attribute_values: {names.is_class(name, word)}"
            )
    return "\n\n".join(text) + "\n"


def _table(name: str, words: list[str]) -> str:
    rows = ["| name | what it is |", "|---|---|"]
    for word in words:
        sentence = dialect.to_markdown(names.first_sentence(name, word))
        cell = " ".join(sentence.split()).replace("|", "\\|")
        rows.append(f"| [`{word}`][headwise.{name}.{word}] | {cell} |")
    return "\n".join(rows)


def _overview() -> str:
    """The page of the library: its docstring's table, and the names at its top."""
    known = names.identifiers()
    text = dialect.to_markdown(names.headwise.__doc__ or "", _resolve_whole)
    rows = ["| at the top | explained as |", "|---|---|"]
    for word in names.in_order([x for x in names.headwise.__all__ if x in known]):
        if word not in names.LAYERS:
            rows.append(f"| `hw.{word}` | [`{known[word][9:]}`][{known[word]}] |")
    every = ["| layer | names |", "|---|---|"]
    for name in names.LAYERS:
        words = names.in_order(list(dict.fromkeys(names.layer(name).__all__)))
        cell = ", ".join(f"[`{word}`][headwise.{name}.{word}]" for word in words)
        every.append(f"| [`hw.{name}`][headwise.{name}] | {cell} |")
    return "\n\n".join(
        [
            "# Reference",
            text.strip(),
            "## Names at the top",
            "\n".join(rows),
            "## Every name",
            "\n".join(every),
            "",
        ]
    )


def _resolve_whole(word: str) -> str | None:
    if not word.startswith("hw."):
        return None
    return names.identifiers().get(word.removeprefix("hw."))


def _measured() -> str:
    """Which pages hold tables of times, and under which heading."""
    rows = ["| page | measured there | results |", "|---|---|---|"]
    for page, path in written().items():
        text = (ROOT / path).read_text(encoding="utf-8")
        title = markdown.headings(text)[0][1]
        for heading, body in markdown.sections(text):
            views = [
                line.removeprefix("<!-- table: ").removesuffix(" -->").split()[1:]
                for line in body.splitlines()
                if line.startswith("<!-- table: ")
            ]
            if views:
                files = dict.fromkeys(name for view in views for name in view)
                folder = f"{repository()}/blob/main/experiments/benchmarks/results"
                where = ", ".join(f"[{x}]({folder}/{x}.json)" for x in files)
                link = f"[{heading}](../{page}#{markdown.slug(heading)})"
                rows.append(f"| {title} | {link} | {where} |")
    return "\n\n".join(
        [
            "# Measured",
            "Times and memory, each with the command, machine and versions beside it. "
            "The tables are made from results that the repository keeps, and a test "
            "fails on one that is stale.",
            "\n".join(rows),
            "Which mode a sweep takes, and why: [How trials run](sweeps.md).",
            "",
        ]
    )


def _pictures() -> str:
    """Every picture of the pages, with the page that explains it."""
    text = [
        "# Pictures",
        "What Headwise draws, each on the page that explains it.",
    ]
    seen = set()
    for page, path in written().items():
        source = (ROOT / path).read_text(encoding="utf-8")
        title = markdown.headings(source)[0][1]
        for picture, words, target in markdown.links(source):
            file = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if picture and file not in seen:
                seen.add(file)
                file = file.removeprefix("docs/")
                text += [
                    f"## {words}",
                    f"From [{title}]({page}).",
                    f"![{words}]({file})",
                ]
    return "\n\n".join(text) + "\n"


def target_on_site(page: str, target: str) -> str:
    """Where a link leads on the site.

    Args:
        page: the page of the site that has the link.
        target: as written, relative to the page's file in the repository.

    Returns:
        A link relative to the page of the site, or a whole one to the repository for
        files that the site does not hold.
    """
    sources = written()
    if "://" in target or target.startswith(("#", "mailto:")) or page not in sources:
        return target
    path, _, anchor = target.partition("#")
    folder = posixpath.dirname(sources[page])
    file = posixpath.normpath(posixpath.join(folder, path))
    on_site = {source: name for name, source in sources.items()}
    behind = f"#{anchor}" if anchor else ""
    there = on_site.get(file)
    if there is None and file.startswith("docs/"):
        name = file.removeprefix("docs/")
        there = re.sub(r"^(notebooks/\w+)\.ipynb$", r"\1.md", name)
    if there is None:
        return f"{repository()}/blob/main/{file}{behind}"
    return posixpath.relpath(there, posixpath.dirname(page) or ".") + behind
