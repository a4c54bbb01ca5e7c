"""What draws a report: plotly and DataTables, from the wheels that carry them."""

import importlib.resources
import importlib.util
import re

NEEDED = 'the report needs plotly and itables: pip install "headwise[report]"'
_EXPORTS = re.compile(r"export\s*\{([^{}]*)\}\s*;?")


def plotly() -> str:
    """The source of plotly.js."""
    return _text("plotly", "package_data/plotly.min.js")


def tables() -> tuple[str, str]:
    """Script and style of DataTables; the script sets `globalThis.DataTables`.

    Raises:
        RuntimeError: the wheel is built in another way than those that are known.
    """
    source = _text("itables", "html/dt_bundle.js")
    found = _EXPORTS.findall(source)
    names = dict(
        reversed(pair.split(" as "))
        for pair in (found[0].split(",") if len(found) == 1 else ())
        if " as " in pair
    )
    if "default" not in names:
        raise RuntimeError(
            "itables: its bundle exports no DataTable as `default`; "
            "versions 2.6 to 2.9 do"
        )
    ours = f"globalThis.DataTables={names['default']};"
    return _EXPORTS.sub(lambda _: ours, source), _text("itables", "html/dt_bundle.css")


def own(name: str) -> str:
    """A file of ours."""
    return _text("headwise", f"reports/_page/static/{name}")


def _text(package: str, name: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(NEEDED)
    # Not imported: itables takes pandas along, for most of the time of a small page.
    module = importlib.util.module_from_spec(spec)
    path = importlib.resources.files(module)
    return path.joinpath(name).read_text(encoding="utf-8")
