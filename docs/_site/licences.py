"""The table of docs/licences.md: what setup.cfg names, with the licence that it ships.

python -m docs._site.licences [SITE_PACKAGES ...]

Licences are read from the metadata of what is installed here, and in folders given;
rows of packages that are nowhere stay as they are.
"""

import configparser
import importlib.metadata
import pathlib
import re
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/licences.md"
_TABLE = re.compile(r"(<!-- licences -->\n).*?(<!-- end of licences -->)", re.DOTALL)
_ROW = re.compile(r"^\| `([\w.-]+)` \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
_COPYLEFT = re.compile(r"GPL|GNU|MPL|Mozilla|EUPL|CDDL|Eclipse")


class Row(NamedTuple):
    """A package of the table."""

    name: str
    extras: str
    """Of which it is a part; "" for the library itself."""
    licence: str
    version: str
    """The one whose metadata were read."""


def required() -> dict[str, list[str]]:
    """{package: the extras that ask for it; "" is the library} of setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    wanted = {"": config["options"]["install_requires"]}
    wanted |= config["options.extras_require"]
    found: dict[str, list[str]] = {}
    for extra, text in wanted.items():
        for name in re.findall(r"^[\w.-]+", text, re.MULTILINE):
            if name != "headwise" and extra not in found.setdefault(name, []):
                found[name].append(extra)
    return found


def licence(metadata: importlib.metadata.PackageMetadata) -> str:
    """What a package says: SPDX, else its own short word, else its classifier."""
    if expression := metadata.get("License-Expression"):
        return expression
    words = [line.strip() for line in (metadata.get("License") or "").splitlines()]
    first = next(filter(None, words), "")
    if first and len(first) <= 24 and not first.startswith("Copyright"):
        return first
    classifiers = metadata.get_all("Classifier") or []
    kinds = [c.split(" :: ")[-1] for c in classifiers if c.startswith("License ::")]
    return ", ".join(kinds) or first or "not said"


def is_copyleft(words: str) -> bool:
    """Whether it asks those who pass the package on for more than a notice.

    Example:
        >>> is_copyleft("LGPL-2.1-or-later"), is_copyleft("BSD-3-Clause")
        (True, False)
    """
    return bool(_COPYLEFT.search(words))


def rows(text: str) -> dict[str, Row]:
    """{package: its row} of the page."""
    table = _TABLE.search(text)
    found = _ROW.finditer(table[0] if table else "")
    return {match[1]: Row(*match.groups()) for match in found}


def updated(text: str, paths: list[str]) -> str:
    """The page with its table made anew."""
    there = {
        _plain(distribution.name): distribution
        for distribution in importlib.metadata.distributions(path=[*paths, *sys.path])
    }
    before, lines = rows(text), ["| package | for | licence | read from |"]
    lines.append("|---|---|---|---|")
    for name, extras in sorted(required().items(), key=lambda item: item[0].lower()):
        shown = ", ".join(f"`[{extra}]`" if extra else "always" for extra in extras)
        row = before.get(name, Row(name, "", "not read", ""))
        if found := there.get(_plain(name)):
            words = licence(found.metadata)
            mark = f"**{words}**" if is_copyleft(words) else words
            row = Row(name, "", mark, found.version)
        lines.append(f"| `{name}` | {shown} | {row.licence} | {row.version} |")
    table = "\n".join(lines)
    return _TABLE.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    page = updated(PAGE.read_text(encoding="utf-8"), sys.argv[1:])
    PAGE.write_text(page, encoding="utf-8")
    print(f"{PAGE}: {len(rows(page))} packages")
