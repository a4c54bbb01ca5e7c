"""What a Markdown page holds: its headings' anchors, links and pictures, as GitHub."""

import re
from collections.abc import Callable
from collections.abc import Iterator

_FENCE = re.compile(r"^(```+)[^`\n]*\n.*?^\1[ ]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_HEADING = re.compile(r"^(#{1,6}) (.+?)\s*$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """The page with `change` of all that is not in a fenced block."""
    parts, at = [], 0
    for match in _FENCE.finditer(text):
        parts += [change(text[at : match.start()]), match[0]]
        at = match.end()
    return "".join([*parts, change(text[at:])])


def prose(text: str) -> str:
    """The page without its fenced blocks, each of which leaves an empty line."""
    return _FENCE.sub("", text)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Prose with `change` of all that stands in no `code`."""
    parts, at = [], 0
    for match in _CODE.finditer(text):
        parts += [change(text[at : match.start()]), match[0]]
        at = match.end()
    return "".join([*parts, change(text[at:])])


def slug(title: str) -> str:
    """The anchor of a heading: "What `fit` does" -> "what-fit-does".

    Example:
        >>> slug("NNX: nnx.Optimizer and nnx.jit")
        'nnx-nnxoptimizer-and-nnxjit'
    """
    words = _LINK.sub(r"\2", title).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def headings(text: str) -> list[tuple[int, str]]:
    """[(level, title)] of a page, from the top."""
    return [(len(match[1]), match[2]) for match in _HEADING.finditer(prose(text))]


def anchors(text: str) -> set[str]:
    """What may stand behind a # in a link to this page."""
    found: set[str] = set()
    for _, title in headings(text):
        name, number = slug(title), 0
        while (anchor := name if not number else f"{name}-{number}") in found:
            number += 1
        found.add(anchor)
    return found


def links(text: str) -> Iterator[tuple[bool, str, str]]:
    """(is it a picture?, its text, where it leads) of every link outside of code."""
    for match in _LINK.finditer(_CODE.sub("", prose(text))):
        yield bool(match[1]), match[2], match[3]


def with_links(text: str, change: Callable[[str], str]) -> str:
    """The page with `change` of where each link leads."""

    def changed(part: str) -> str:
        return _LINK.sub(lambda m: f"{m[1]}[{m[2]}]({change(m[3])})", part)

    return outside_fences(text, changed)


def sections(text: str) -> Iterator[tuple[str, str]]:
    """(title, its text to the next heading), fences and all; the first has title ""."""
    marked = outside_fences(text, lambda part: _HEADING.sub(r"\0\2\0", part))
    first, *others = marked.split("\0")
    yield "", first
    yield from zip(others[::2], others[1::2])
