"""What MkDocs is told beside mkdocs.yml, which names the pages and their order."""

import pathlib
import re
import sys
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from mkdocs.structure.files import Files
from pymdownx import slugs

sys.path[:0] = [str(pathlib.Path(__file__).parents[2] / x) for x in ("", "research")]

from docs._site import dialect  # noqa: E402
from docs._site import markdown  # noqa: E402
from docs._site import names  # noqa: E402
from docs._site import notebooks  # noqa: E402
from docs._site import pages  # noqa: E402

_TITLED = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)
_PRIVATE = re.compile(r'<span class="n">_[a-z]\w*</span><span class="o">\.</span>')
_FIRST_CELL = re.compile(r"^\| `(\w+)`(?=[ ,])", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Anchors as on GitHub; the link to the repository, from setup.cfg."""
    config.mdx_configs["toc"]["slugify"] = slugs.slugify(case="lower")
    config.extra["social"] = [
        {"icon": "fontawesome/brands/github", "link": pages.repository()}
    ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds what is no file of docs/."""
    for uri, path in pages.FROM_ROOT.items():
        text = (pages.ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=text))
    for uri, text in pages.made().items():
        files.append(File.generated(config, uri, content=text))
    for uri, picture in notebooks.pictures().items():
        files.append(File.generated(config, uri, content=picture))
    return files


def on_page_markdown(text: str, page: Any, **kwargs: Any) -> str:
    """Links lead to the site; public names lead to the reference."""
    del kwargs
    uri = page.file.src_uri
    if uri in pages.WIDE:
        page.meta["hide"] = ["navigation"]
    text = markdown.with_links(text, lambda x: pages.target_on_site(uri, x))
    text = _TITLED.sub(r'```\1 title="\2"', text)
    if uri not in pages.written() and not uri.startswith("notebooks/"):
        return text
    return markdown.outside_fences(text, lambda part: _with_names(part, uri))


def on_post_page(output: str, page: Any, **kwargs: Any) -> str:
    """No link to a name may be left over; types go by their names alone."""
    del kwargs
    uri = page.file.src_uri
    left = re.findall(r"\]\[headwise\.[\w.]+\]", output)
    if left:
        raise PluginError(f"{uri}: the reference has no {', '.join(sorted(set(left)))}")
    return _PRIVATE.sub("", output) if uri.startswith("reference/") else output


def _with_names(text: str, uri: str) -> str:
    known = names.identifiers()
    layer = pathlib.PurePosixPath(uri).stem

    def of_row(match: re.Match) -> str:
        target = known.get(f"{layer}.{match[1]}")
        return f"| [`{match[1]}`][{target}]" if target else match[0]

    def resolve(word: str) -> str | None:
        return known.get(word.removeprefix("hw.")) if word[:3] == "hw." else None

    lines = _FIRST_CELL.sub(of_row, text).splitlines(keepends=True)
    return "".join(
        line if line.startswith("#") else dialect.linked(line, resolve)
        for line in lines
    )
