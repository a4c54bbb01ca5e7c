"""How times are taken: ways take turns in one process, and what compiling shows.

A way is a function of a number n that makes n calls, one after the other, and returns
the seconds of each: `way` makes one of a call, `Peer.way` one of a call in another
Python. Ratios of ways that took turns in one run hold on a busy machine; times of
different runs do not compare.
"""

import contextlib
import ctypes
import functools
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import Self

import jax
import rich.console
import rich.table
from absl import app
from absl import flags

import headwise as hw
from experiments.benchmarks import results
from experiments.benchmarks import views
from headwise import _xla

_JSON = flags.DEFINE_string("json", None, "Where to write the result.")
_MARKDOWN = flags.DEFINE_bool("markdown", False, "Print Markdown tables.")

Way = Callable[[int], list[float]]
PEERS = pathlib.Path(__file__).with_name("peers")
_VARIABLES = (
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
    "OMP_NUM_THREADS",
    "XLA_FLAGS",
)


def begin(
    argv: Sequence[str], **choices: tuple[Collection[str], Collection[str]]
) -> None:
    """Refuses what a flag does not know, and lets every program be compiled anew.

    Args:
        argv: what is left of the command line beside flags.
        **choices: of a flag by its name, the given words and the known ones.
    """
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    for flag, (given, known) in choices.items():
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise app.UsageError(
                f"--{flag}: expected some of {', '.join(known)}; got {unknown}"
            )
    # Programs from the cache on disk would make the compiler look fast.
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}\n")


def keep_memory() -> None:
    """Tells glibc to keep freed memory instead of giving it back to the kernel.

    Otherwise large results cost page faults in every call or in none, as the sizes of
    earlier ones had it, which changes times by half.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_max = -1, -4
        ctypes.CDLL(None).mallopt(mmap_max, 0)
        ctypes.CDLL(None).mallopt(trim_threshold, 2**31 - 1)


class Compiled(NamedTuple):
    """A compiled program and what compiling it showed."""

    call: Callable[[], Any]
    """Runs it, waits for the end and gives the result."""
    seconds: float
    """That tracing and compiling took together."""
    operations: float
    temporary: int
    """Bytes beside arguments and results."""
    tracing: float
    """Seconds of `seconds` that passed before the compiler was called."""


def _run(program: Callable, *args: Any) -> Any:
    return jax.block_until_ready(program(*args))


def compiled(
    function: Callable, *args: Any, options: Mapping[str, Any] | None = None
) -> Compiled:
    """The function, traced and compiled for these arguments."""
    start = time.perf_counter()
    lowered = jax.jit(function).lower(*args)
    tracing = time.perf_counter() - start
    program = lowered.compile(compiler_options=dict(options or {}))
    seconds = time.perf_counter() - start
    operations = (program.cost_analysis() or {}).get("flops", float("nan"))
    temporary = getattr(program.memory_analysis(), "temp_size_in_bytes", 0)
    call = functools.partial(_run, program, *args)
    return Compiled(call, seconds, operations, temporary, tracing)


@contextlib.contextmanager
def replaced(values: Mapping[str, Any]) -> Iterator[None]:
    """`_xla` with other values while a program is traced."""
    before = {name: getattr(_xla, name) for name in values}
    try:
        for name, value in values.items():
            setattr(_xla, name, value)
        jax.clear_caches()  # Traces of inner functions hold the decisions too.
        yield
    finally:
        for name, value in before.items():
            setattr(_xla, name, value)
        jax.clear_caches()


def way(call: Callable[[], Any]) -> Way:
    """A call as a way; it has to wait for its own end."""

    def timed(calls: int) -> list[float]:
        taken = []
        for _ in range(calls):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        return taken

    return timed


def turns(
    ways: Mapping[str, Way], *, calls: int = 1, rounds: int = 1, seconds: float = 0.0
) -> dict[str, list[float]]:
    """Seconds of every call of every way, the ways taking turns.

    Args:
        ways: by name; each is called once before anything counts.
        calls: in a way's turn. With two the first meets the caches as the way before
            left them, and the second as its own.
        rounds: in each of which every way has one turn.
        seconds: rounds go on at least so long.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for one in ways.values():
        one(1)
    end, done = time.perf_counter() + seconds, 0
    while done < rounds or time.perf_counter() < end:
        for name, one in ways.items():
            taken[name] += one(calls)
        done += 1
    return taken


def best(taken: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of each way's calls the fastest: what other processes took away is not in it."""
    return {name: min(times) for name, times in taken.items()}


class Peer:
    """A process of another Python that times calls on demand; see `peers`."""

    def __init__(self, python: str, file: str):
        self._python, self._file = python, file
        self._process = subprocess.Popen(
            [python, str(PEERS / file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        hello = self._read()
        self.versions: dict[str, str] = hello["versions"]
        self.names: list[str] = hello["names"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            raise RuntimeError(
                f"--peer: {self._python} ended in {self._file}, whose head says what "
                "it needs"
            )
        return json.loads(line)

    def way(self, name: str, **data: Any) -> Way:
        """Calls of what the peer has under this name, on this data."""
        assert self._process.stdin is not None
        stdin = self._process.stdin

        def timed(calls: int) -> list[float]:
            stdin.write(json.dumps({"name": name, "calls": calls, **data}) + "\n")
            stdin.flush()
            answer = self._read()
            if "error" in answer:
                raise RuntimeError(f"--peer: {name} of {self._file}: {answer['error']}")
            return answer["seconds"]

        return timed


def _rounded(cell: Any) -> Any:
    """Numbers with six digits, more than any time has."""
    return float(f"{cell:.6g}") if isinstance(cell, float) else cell


def _command(benchmark: str, arguments: Sequence[str]) -> str:
    words = ["python", "-m", f"experiments.benchmarks.{benchmark}"]
    for word in arguments:
        flag = word.partition("=")[0].lstrip("-")
        if flag == "peer":
            words.append("--peer=PYTHON")
        elif flag not in ("json", "markdown"):
            words.append(shlex.quote(word))
    return " ".join(words)


def _show(table: views.Table) -> None:
    """Prints it for the terminal, or with --markdown as pages hold it."""
    if _MARKDOWN.value:
        print(*views.markdown(table), "", sep="\n")
        return
    shown = rich.table.Table(title=table.title, title_justify="left", box=None)
    for column in table.columns:
        left = column in views.WORDS
        shown.add_column(column, justify="left" if left else "right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*row)
    rich.console.Console(width=100).print(shown, "")


def finish(
    benchmark: str,
    rows: Sequence[dict[str, Any]],
    view: Callable[[Sequence[results.Result]], list[views.Table]],
    other_versions: Mapping[str, str] | None = None,
) -> None:
    """Prints a view of the rows; leaves them in the file that --json names.

    Args:
        benchmark: its name, as in `results.SCHEMA`.
        rows: as `results.SCHEMA` has them.
        view: what is printed.
        other_versions: of packages that `made_with` does not know.
    """
    made = hw.sweeps.made_with()
    versions = made["versions"] | dict(other_versions or {})
    result = results.Result(
        benchmark=benchmark,
        command=_command(benchmark, sys.argv[1:]),
        date=made["time"].partition("T")[0],
        machine=results.machine(),
        device=made["device"]["kind"],
        revision=made["revision"],
        versions={name: version for name, version in versions.items() if version},
        variables={v: os.environ[v] for v in _VARIABLES if v in os.environ},
        rows=[{name: _rounded(cell) for name, cell in row.items()} for row in rows],
    )
    for table in view([result]):
        _show(table)
    if _JSON.value:
        results.write(result, pathlib.Path(_JSON.value))
