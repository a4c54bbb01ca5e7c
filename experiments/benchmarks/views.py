"""Tables of results: what a run prints, and what stands in the pages of docs/."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from experiments.benchmarks import overview as cases
from experiments.benchmarks.results import Result

Row = Mapping[str, Any]
WORDS = {"form", "model", "loss", "way", "balancer", "what", "beside"}
"""Columns of words, which begin at the left; numbers end at the right."""


class Table(NamedTuple):
    """A title, which may be empty, and cells of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown(table: Table) -> list[str]:
    """Its lines."""
    rule = ["---" if column in WORDS else "---:" for column in table.columns]
    lines = [f"| {' | '.join(row)} |" for row in (table.columns, rule, *table.rows)]
    return [f"**{table.title}**", "", *lines] if table.title else lines


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.{1 if seconds < 0.0995 else 0}f} ms"


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} us"


def _three(seconds: float) -> str:
    """Three digits, in the larger unit of ms and us."""
    unit, name = (1e-3, "ms") if seconds >= 1e-3 else (1e-6, "us")
    return f"{float(f'{seconds / unit:.3g}'):g} {name}"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def _ratio(over: float | None, under: float | None, digits: int = 2) -> str:
    """Empty if one of the two is not known."""
    if over is None or under is None:
        return ""
    return f"{over / under:.{digits}f}"


def _two(number: float) -> str:
    """Two digits."""
    return f"{float(f'{number:.2g}'):g}"


def _times(over: float | None, under: float) -> str:
    """How many times as long, with two digits; empty if it is not known."""
    return "" if over is None else f"{_two(over / under)} x"


def _rows(results: Iterable[Result]) -> list[Row]:
    return [row for result in results for row in result.rows]


def _grouped(rows: Iterable[Row], *columns: str) -> dict[tuple, list[Row]]:
    """By the values of some columns, in the order of their first rows."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return groups


def _of_forms(results: Iterable[Result], *forms: str) -> dict[tuple, dict[str, Row]]:
    """{(model, title, heads): {form: row}} where one result has all of these forms.

    If more than one has them, the first speaks: forms of two runs do not compare.
    """
    cases: dict[tuple, dict[str, Row]] = {}
    for result in results:
        for case, rows in _grouped(result.rows, "model", "title", "heads").items():
            by_form = {row["form"]: row for row in rows}
            if set(forms) <= set(by_form):
                cases.setdefault(case, by_form)
    return cases


_ONE_BACKWARD = ("plain backward", "step static")
"""Forms that are no way to get H gradients: a floor of H gradients is not theirs."""


def gradients(results: Sequence[Result]) -> list[Table]:
    """A table a model: every form beside plain backward and the floor."""
    columns = ("H", "form", "time", "x plain", "Gop", "x floor", "compile", "temp")
    tables = []
    for (model, title), of_model in _grouped(_rows(results), "model", "title").items():
        lines: list[tuple[str, ...]] = []
        for (heads,), group in _grouped(of_model, "heads").items():
            moved = f"{_megabytes(group[0]['floor_bytes'])} moved"
            floor = group[0]["floor_operations"]
            count = f"{floor / 1e9:.3f}"
            lines.append((str(heads), "floor", moved, "", count, "1", "", ""))
            plain = {row["form"]: row["seconds"] for row in group}.get("plain backward")
            for row in group:
                single = row["form"] in _ONE_BACKWARD
                lines.append(
                    (
                        "",
                        row["form"],
                        f"{1e3 * row['seconds']:.2f} ms",
                        _ratio(row["seconds"], plain),
                        f"{row['operations'] / 1e9:.3f}",
                        "" if single else _ratio(row["operations"], floor, 3),
                        f"{row['compile_seconds']:.2f} s",
                        _megabytes(row["temporary_bytes"]),
                    )
                )
        tables.append(Table(f"{model}: {title}", columns, lines))
    return tables


def _against(results: Iterable[Result], over: str, under: str) -> list[list[str]]:
    """[model, H, time, operations, memory] of a form, each in those of another one."""
    lines = []
    for (model, title, heads), by_form in _of_forms(results, over, under).items():
        one, other = by_form[over], by_form[under]
        quantities = ("seconds", "operations", "temporary_bytes")
        cells = [_ratio(one[q], other[q], 1) for q in quantities]
        lines.append([f"`{model}`: {title}", str(heads), *cells])
    return lines


def jacrev(results: Sequence[Result]) -> list[Table]:
    """What `jax.jacrev` costs in units of `head_grads`, where heads share a trunk."""
    columns = ("model", "H", "time", "operations", "memory")
    lines = _against(results, "jacrev", "head_grads")
    return [Table("", columns, [line for line in lines if line[1] != "1"])]


def methods(results: Sequence[Result]) -> list[Table]:
    """The batched way through the shared part in units of the sequential one."""
    columns = ("model", "H", "time", "operations", "memory")
    return [Table("", columns, _against(results, "batched", "sequential"))]


def steps(results: Sequence[Result]) -> list[Table]:
    """Steps with MGDA beside static ones, and contributions in every step on top."""
    forms = ("step static", "step mgda", "step contributions")
    columns = ("model", "H", "mgda, x static", "operations", "contributions, x mgda")
    lines = []
    groups = _of_forms(results, *forms)
    for (model, title, heads), by_form in groups.items():
        static, mgda, contributions = (by_form[form] for form in forms)
        lines.append(
            [
                f"`{model}`: {title}",
                str(heads),
                _ratio(mgda["seconds"], static["seconds"]),
                _ratio(mgda["operations"], static["operations"]),
                _ratio(contributions["seconds"], mgda["seconds"]),
            ]
        )
    return [Table("", columns, lines)]


def many_heads(results: Sequence[Result]) -> list[Table]:
    """A table a model: tracing, compiling and a call, beside those of a plain step."""
    columns = ["H", "form", "trace", "compile", "both, x plain", "time", "x plain"]
    columns += ["temp"]
    tables = []
    for (model, title), of_model in _grouped(_rows(results), "model", "title").items():
        lines = []
        for (heads,), group in _grouped(of_model, "heads").items():
            plain = next((row for row in group if row["form"] == "plain"), None)
            for i, row in enumerate(group):
                both, of_plain = (
                    None if r is None else r["trace_seconds"] + r["compile_seconds"]
                    for r in (row, plain)
                )
                time_of_plain = None if plain is None else plain["seconds"]
                lines.append(
                    (
                        "" if i else str(heads),
                        row["form"],
                        f"{row['trace_seconds']:.2f} s",
                        f"{row['compile_seconds']:.2f} s",
                        _ratio(both, of_plain, 1),
                        f"{1e3 * row['seconds']:.1f} ms",
                        _ratio(row["seconds"], time_of_plain, 1),
                        _megabytes(row["temporary_bytes"]),
                    )
                )
        tables.append(Table(f"{model}: {title}", columns, lines))
    return tables


def loop(results: Sequence[Result]) -> list[Table]:
    """A table of all models: a step of every form, beside that of a compiled scan."""
    columns = ("model", "form", "a step", "x scan", "x fit")
    lines = []
    for (model, title), rows in _grouped(_rows(results), "model", "title").items():
        by_form = {row["form"]: row["seconds"] for row in rows}
        for i, (form, seconds) in enumerate(by_form.items()):
            lines.append(
                [
                    "" if i else f"`{model}`: {title}",
                    form,
                    _microseconds(seconds),
                    _ratio(seconds, by_form.get("scan")),
                    _ratio(seconds, by_form.get("fit")),
                ]
            )
    return [Table("", columns, lines)]


def sweep(results: Sequence[Result]) -> list[Table]:
    """A table a model: a step of a trial in every form, and what others take of it."""
    columns = ["trials", "form", "a step a trial", "fit", "PyTorch"]
    columns += ["compiled"]
    tables = []
    for (model, title), of_model in _grouped(_rows(results), "model", "title").items():
        lines = []
        for (trials,), group in _grouped(of_model, "trials").items():
            by_form = {row["form"]: row["seconds"] for row in group}
            for i, row in enumerate(group):
                count, seconds = row["compilations"], row["seconds"]
                lines.append(
                    [
                        "" if i else str(trials),
                        row["form"] + (f": {row['detail']}" if row["detail"] else ""),
                        f"{1e3 * seconds:.3g} ms",
                        _times(by_form.get("fit"), seconds),
                        _times(by_form.get("PyTorch"), seconds),
                        "" if count is None else str(count),
                    ]
                )
        tables.append(Table(f"{model}: {title}", columns, lines))
    return tables


def loss_ways(results: Sequence[Result]) -> list[Table]:
    """Every way to compute a loss, one below the other."""
    columns = ("C", "loss", "way", "time", "x headwise", "x floor", "temp")
    lines = []
    for group in _grouped(_rows(results), "classes", "dtype", "loss").values():
        ours = next(row["seconds"] for row in group if row["way"] == "headwise")
        for row in group:
            lines.append(
                [
                    str(row["classes"]),
                    row["loss"],
                    row["way"],
                    f"{1e3 * row['seconds']:.1f} ms",
                    _ratio(row["seconds"], ours),
                    _ratio(row["seconds"], row["floor_seconds"], 1),
                    _ratio(row["temporary_bytes"], row["logits_bytes"]),
                ]
            )
    return [Table("", columns, lines)]


_LOSS_NAMES = {"ce": "cross_entropy"}


def losses(results: Sequence[Result]) -> list[Table]:
    """A row a loss: ours, and the other ways side by side."""
    columns = ["loss", "C", "Headwise", "x floor", "temp", "MONAI"]
    columns += ["plain", "temp", "optax", "temp"]
    lines = []
    for group in _grouped(_rows(results), "classes", "dtype", "loss").values():
        by_way = {row["way"]: row for row in group}
        ours = by_way["headwise"]
        name = _LOSS_NAMES.get(ours["loss"], ours["loss"])

        def cells(way: str, by_way: Mapping[str, Row] = by_way) -> list[str]:
            if way not in by_way:
                return ["", ""]
            row = by_way[way]
            memory = _ratio(row["temporary_bytes"], row["logits_bytes"])
            return [_milliseconds(row["seconds"]), memory]

        time, memory = cells("headwise")
        lines.append(
            [
                f"`{name}`",
                str(ours["classes"]),
                time,
                _ratio(ours["seconds"], ours["floor_seconds"], 1),
                memory,
                cells("MONAI")[0],
                *cells("plain"),
                *cells("optax"),
            ]
        )
    return [Table("", columns, lines)]


def balancers(results: Sequence[Result]) -> list[Table]:
    """Every update beside a step, and beside other solvers where they were measured."""
    columns = ["H", "balancer", "update", "% of a step", "compile", "x quadprog"]
    rows, lines = _rows(results), []
    if any(row["torchjd_seconds"] is not None for row in rows):
        columns += ["TorchJD", "x TorchJD"]
    for row in rows:
        seconds, peer = row["seconds"], row["torchjd_seconds"]
        line = [
            str(row["heads"]),
            row["balancer"],
            _microseconds(seconds),
            _ratio(100 * seconds, row["step_seconds"]),
            f"{row['compile_seconds']:.2f} s",
            _ratio(seconds, row["quadprog_seconds"]),
            "" if peer is None else _microseconds(peer),
            _ratio(seconds, peer, 3),
        ]
        lines.append(line[: len(columns)])
    return [Table("", columns, lines)]


def overview(results: Sequence[Result]) -> list[Table]:
    """README's table: a line a thing, and who else computes it."""
    columns = ("what", "Headwise", "beside", "takes", "times as long")
    lines = [
        (what, _three(ours), name, _three(theirs), _two(theirs / ours))
        for what, ours, name, theirs in cases.lines(results)
    ]
    return [Table("", columns, lines)]


VIEWS: dict[str, Callable[[Sequence[Result]], list[Table]]] = {
    view.__name__: view
    for view in (
        gradients,
        jacrev,
        methods,
        steps,
        many_heads,
        loop,
        sweep,
        loss_ways,
        losses,
        balancers,
        overview,
    )
}
"""By the names that pages use."""
