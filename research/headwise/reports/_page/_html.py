"""One file that holds all: data, words, drawing code; and that reaches no network."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from headwise.reports import _summary
from headwise.reports._page import _assets
from headwise.reports._page import _curves
from headwise.reports._page import _heads
from headwise.reports._page import _trials
from headwise.reports._page import _words
from headwise.reports._page._contents import Contents

_SCRIPTS = (
    "state.js",
    "charts.js",
    "front.js",
    "parallel.js",
    "response.js",
    "curves.js",
    "heads.js",
    "table.js",
    "main.js",
)


def page(contents: Contents) -> str:
    """The report of a study or a run as HTML."""
    rows = _summary.rows(contents.records)
    words, data = _said(contents, rows), _json(_data(contents, rows))
    fields = {"title": html.escape(_title(contents)), "words": words, "data": data}
    return _file(fields | {"commands": _json(_trials.commands(contents))})


def _json(value: Any) -> str:
    """JSON that may stand in a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _file(fields: Mapping[str, str]) -> str:
    """Title, words, data and commands in the page, with all that draws them."""
    script, style = _assets.tables()
    scripts = [_assets.plotly()]
    modules = [script, "\n".join(map(_assets.own, _SCRIPTS))]
    whole = {
        **fields,
        "policy": _policy([*scripts, *modules]),
        "style": style + _assets.own("page.css"),
        "scripts": "".join(f"<script>{text}</script>" for text in scripts)
        + "".join(f'<script type="module">{text}</script>' for text in modules),
    }
    # Names of fields stand between the marks: every second part.
    parts = _assets.own("page.html").split("@@")
    return "".join(whole[p] if i % 2 else p for i, p in enumerate(parts))


def _policy(scripts: Iterable[str]) -> str:
    """A content security policy: these scripts, and nothing from anywhere.

    plotly.js compiles its WebGL programs by `new Function`, hence 'unsafe-eval'.
    """
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in scripts
    ]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed} 'unsafe-eval'; "
        "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _data(contents: Contents, given: _summary.Rows) -> dict[str, Any]:
    """All that the page draws, as JSON."""
    data: dict[str, Any] = {"runs": [_heads.run(run) for run in contents.runs]}
    data["folder"] = str(contents.folder)
    if contents.records:
        rows = _trials.rows(contents, given)
        data["trials"] = _trials.table(contents)
        data["rows"] = rows
        data["curves"] = _curves.curves(contents, rows)
        data["front"] = _axes(contents)
    return data


def _axes(contents: Contents) -> list[str]:
    """The two metrics that the front begins with."""
    wished = contents.about.get("front") or []
    names = [n for n in wished if n in contents.higher]
    names += [n for n in contents.higher if n not in names]
    return names[:2]


def _title(contents: Contents) -> str:
    return f"{_name(contents)} · Headwise report"


def _name(contents: Contents) -> str:
    return str(contents.about.get("name") or contents.folder.resolve().name)


def _said(contents: Contents, rows: _summary.Rows) -> str:
    """The words of the page, which need no script."""
    about = contents.about
    question = str(about.get("question") or "").strip()
    parts = [f"<h1>{html.escape(_name(contents))}</h1>"]
    parts += [f"<p>{_marked(text)}</p>" for text in question.split("\n\n") if text]
    if not contents.records and not contents.runs:
        parts.append(
            "<p class='alert'>Nothing to show: the folder holds no record of a trial "
            "and no metrics of a run.</p>"
        )
    parts.append(_list("What could not be read", contents.problems, "alert"))
    parts.append(_list("What was run", _words.what(contents, rows)))
    parts.append(_list("What it shows", _words.verdict(contents, rows), "verdict"))
    remark = str(about.get("remark") or "").strip()
    parts += [f"<p>{_marked(remark)}</p>"] * bool(remark)
    parts.append(_list("The studies at equal budget", _words.compared(contents)))
    parts.append(_list("What to try next", _words.advice(contents, rows)))
    parts.append(_list("Trials without a result", _words.broken(contents)))
    parts.append(_list("Made with", _words.machine(contents), "machine", closed=True))
    return "".join(parts)


def _marked(text: str) -> str:
    """A text as HTML: what stands in backticks is code.

    Example:
        >>> _marked("`a<b` & c")
        '<code>a&lt;b</code> &amp; c'
    """
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _list(
    title: str, lines: Iterable[str], kind: str = "plain", closed: bool = False
) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    if not items:
        return ""
    if closed:
        head = f"<summary><h2>{title}</h2></summary>"
        return f"<details class='{kind}'>{head}<ul>{items}</ul></details>"
    return f"<section class='{kind}'><h2>{title}</h2><ul>{items}</ul></section>"
