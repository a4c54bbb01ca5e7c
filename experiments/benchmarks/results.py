"""What a run of a benchmark leaves: its rows with command, machine and versions.

Rows hold plain numbers in seconds, bytes and operations; ratios and roundings are made
in `views`. What is not known is None, null in the file.
"""

import json
import os
import pathlib
import platform
from typing import Any
from typing import NamedTuple

FOLDER = pathlib.Path(__file__).with_name("results")

_TEXT, _WHOLE, _NUMBER, _MAYBE = (str,), (int,), (int, float), (int, float, type(None))
SCHEMA: dict[str, dict[str, tuple[type, ...]]] = {
    "gradients": {
        "model": _TEXT,
        "title": _TEXT,
        "heads": _WHOLE,
        "form": _TEXT,
        "seconds": _NUMBER,
        "operations": _NUMBER,
        "floor_operations": _NUMBER,
        "floor_bytes": _WHOLE,
        "compile_seconds": _NUMBER,
        "temporary_bytes": _WHOLE,
    },
    "many_heads": {
        "model": _TEXT,
        "title": _TEXT,
        "heads": _WHOLE,
        "form": _TEXT,
        "seconds": _NUMBER,
        "trace_seconds": _NUMBER,
        "compile_seconds": _NUMBER,
        "temporary_bytes": _WHOLE,
    },
    "loop": {
        "model": _TEXT,
        "title": _TEXT,
        "form": _TEXT,
        "steps": _WHOLE,
        "seconds": _NUMBER,
    },
    "sweep": {
        "model": _TEXT,
        "title": _TEXT,
        "trials": _WHOLE,
        "form": _TEXT,
        "detail": _TEXT,
        "seconds": _NUMBER,
        "compilations": _MAYBE,
    },
    "losses": {
        "loss": _TEXT,
        "classes": _WHOLE,
        "dtype": _TEXT,
        "way": _TEXT,
        "seconds": _NUMBER,
        "floor_seconds": _NUMBER,
        "logits_bytes": _WHOLE,
        "temporary_bytes": _MAYBE,
    },
    "balancers": {
        "balancer": _TEXT,
        "heads": _WHOLE,
        "seconds": _NUMBER,
        "step_seconds": _NUMBER,
        "compile_seconds": _NUMBER,
        "quadprog_seconds": _MAYBE,
        "torchjd_seconds": _MAYBE,
    },
}
"""The columns of each benchmark's rows, with the types of their cells."""


class Result(NamedTuple):
    """One run."""

    benchmark: str
    command: str
    """Without --json; the path of a peer's Python is PYTHON."""
    date: str
    machine: dict[str, Any]
    """`processor`, `cores` that the process may use, `memory` in bytes."""
    device: str
    """As JAX names it."""
    revision: str | None
    """Of the library's code, "+" after it if files were changed."""
    versions: dict[str, str]
    """Of Python and packages, those of a peer among them."""
    variables: dict[str, str]
    """Of the environment, those that change times."""
    rows: list[dict[str, Any]]


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """The one that runs now, as `Result` holds it."""
    processor = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"processor": processor, "cores": cores(), "memory": memory}


def problems(result: Result) -> list[str]:
    """What is not as `SCHEMA` and `Result` say, as texts."""
    columns = SCHEMA.get(result.benchmark)
    if columns is None:
        return [f"benchmark: expected one of {list(SCHEMA)}, got {result.benchmark!r}"]
    wrong = [
        f"{name}: is empty"
        for name in ("command", "date", "machine", "device", "versions", "rows")
        if not getattr(result, name)
    ]
    for i, row in enumerate(result.rows):
        if set(row) != set(columns):
            wrong.append(f"row {i}: expected {sorted(columns)}, got {sorted(row)}")
            continue
        for name, types in columns.items():
            if not isinstance(row[name], types):
                wrong.append(f"row {i}, {name}: expected {types}, got {row[name]!r}")
    return wrong


def write(result: Result, path: pathlib.Path) -> None:
    """As JSON, a row a line.

    Raises:
        ValueError: the result is not as it should be; all faults are named.
    """
    if wrong := problems(result):
        raise ValueError(f"{path.name}: {'; '.join(wrong)}")
    head = result._replace(rows=[])._asdict()
    rows = ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in result.rows)
    text = json.dumps(head, indent=1).removesuffix("[]\n}") + f"[\n{rows}\n ]\n}}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read(path: pathlib.Path) -> Result:
    """What `write` wrote.

    Raises:
        ValueError: the file is not as it should be; it and all faults are named.
    """
    result = Result(**json.loads(path.read_text(encoding="utf-8")))
    if wrong := problems(result):
        raise ValueError(f"{path.name}: {'; '.join(wrong)}")
    return result
