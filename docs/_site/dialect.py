"""The house's docstrings as Markdown: sections, formulas, tables, examples, links."""

import re
import textwrap
from collections.abc import Callable

from docs._site import markdown

SECTIONS = ("Args", "Returns", "Raises", "Example", "References")

Resolve = Callable[[str], str | None]
"""From a word in backticks to what the reference calls it, if it is a public name."""

_ENTRY = re.compile(r"^(\*{0,2}[A-Za-z_][\w.]*(?:, \*{0,2}[A-Za-z_][\w.]*)*): ?(.*)$")
_RULER = re.compile(r"^=+( +=+)+$")
_ITEM = re.compile(r"^ *[*-] ", re.MULTILINE)
_MARKUP = re.compile(r"^( *\*(?= ))|([*\[\]<])", re.MULTILINE)
_NAME = re.compile(r"(?<![\[`])(`+)([A-Za-z_][\w.]*)\1(?!`)")


def to_markdown(text: str, resolve: Resolve = lambda word: None) -> str:
    """A docstring of the house (dedented) as Markdown.

    Args:
        text: with the sections that CONTRIBUTING.md names, and blocks after `::`.
        resolve: which words in backticks become links.

    Returns:
        Markdown: formulas and examples are fenced, arguments a list.
    """
    parts = _sections(text)
    made = [_body(parts.pop("", ""), resolve)]
    for heading, body in parts.items():
        made.append(f"{heading}\n{{ .hw-section }}")
        if heading in ("Args", "Raises"):
            made.append(_entries(body, heading == "Args", resolve))
        else:
            made.append(_body(body, resolve))
    return "\n\n".join(part for part in made if part) + "\n"


def linked(text: str, resolve: Resolve) -> str:
    """Prose with its public names in backticks made links to the reference."""

    def link(match: re.Match) -> str:
        target = resolve(match[2])
        return f"[`{match[2]}`][{target}]" if target else match[0]

    return _NAME.sub(link, text)


def _sections(text: str) -> dict[str, str]:
    found: dict[str, list[str]] = {"": []}
    current = ""
    for line in text.splitlines():
        heading = line.rstrip().removesuffix(":")
        if line.rstrip().endswith(":") and heading in SECTIONS:
            current = heading
            found[current] = []
        else:
            found[current].append(line)
    return {name: textwrap.dedent("\n".join(x)) for name, x in found.items()}


def _entries(text: str, code: bool, resolve: Resolve) -> str:
    """`name: what it is`, with indented lines below, as a list."""
    items: list[list[str]] = []
    for line in text.strip("\n").splitlines():
        match = _ENTRY.match(line)
        if match:
            names = match[1].split(", ")
            items.append([", ".join(f"`{name}`" for name in names) + f": {match[2]}"])
        elif items:
            items[-1].append(line.removeprefix("    "))
        else:
            items.append([line])
    made = []
    for item in items:
        own = len(_NAME.findall(item[0].split(": ")[0])) if code else 0
        lines = _body("\n".join(item), _after(own, resolve))
        made.append("- " + textwrap.indent(lines, "    ").lstrip())
    return "\n".join(made)


def _after(number: int, resolve: Resolve) -> Resolve:
    """The same, but for the first words: names of arguments, which link nowhere."""
    left = iter(range(number))
    return lambda word: resolve(word) if next(left, None) is None else None


def _body(text: str, resolve: Resolve) -> str:
    """Paragraphs, blocks after `::`, examples and tables."""
    lines = text.strip("\n").splitlines()
    made: list[str] = []
    paragraph: list[str] = []

    def flush() -> None:
        if paragraph:
            made.append(_prose("\n".join(paragraph), resolve))
            paragraph.clear()

    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            flush()
            at += 1
        elif line.lstrip().startswith(">>> "):
            flush()
            end = _until(lines, at, lambda x: not x.strip())
            made.append(_fence("pycon", lines[at:end]))
            at = end
        elif _RULER.match(line.strip()):
            flush()
            end = _until(lines, at, lambda x: not x.strip())
            made.append(_table(lines[at:end], resolve))
            at = end
        elif line.rstrip().endswith("::"):
            words = line.rstrip().removesuffix("::").rstrip()
            if words.strip():
                paragraph.append(f"{words}:")
            flush()
            depth = _indent(line)
            end = _until(
                lines, at + 1, lambda x, d=depth: bool(x.strip()) and _indent(x) <= d
            )
            made.append(_fence("text", lines[at + 1 : end]))
            at = end
        else:
            paragraph.append(line)
            at += 1
    flush()
    return "\n\n".join(made)


def _until(lines: list[str], start: int, ends: Callable[[str], bool]) -> int:
    return next((i for i in range(start, len(lines)) if ends(lines[i])), len(lines))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _fence(kind: str, lines: list[str]) -> str:
    code = textwrap.dedent("\n".join(lines)).strip("\n")
    return f"```{kind}\n{code}\n```"


def _table(lines: list[str], resolve: Resolve) -> str:
    """A simple table of reStructuredText; three rulers enclose a header too."""
    lines = textwrap.dedent("\n".join(lines)).splitlines()
    starts = [match.start() for match in re.finditer("=+", lines[0])]
    rows = []
    for line in lines:
        if not _RULER.match(line):
            cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None])]
            rows.append([_prose(cell.replace("|", "\\|"), resolve) for cell in cells])
    rulers = len(lines) - len(rows)
    head = rows.pop(0) if rulers == 3 else [""] * len(starts)
    rows = [head, ["---"] * len(starts), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _prose(text: str, resolve: Resolve) -> str:
    """A paragraph: what would be markup elsewhere is text here; lists stay lists."""

    def escaped(part: str) -> str:
        return _MARKUP.sub(lambda m: m[1] or f"\\{m[2]}", part)

    text = textwrap.dedent(text)
    item = _ITEM.search(text)
    if item and item.start() > 0:  # a list begins below an empty line
        text = f"{text[: item.start()]}\n{text[item.start() :]}"
    return linked(markdown.outside_code(text, escaped), resolve)
