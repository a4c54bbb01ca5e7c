"""Settings of every test process: strict, and the names that examples may use."""

import contextlib
import ctypes
import gc
import importlib.metadata
import itertools
import os
import pathlib
import platform
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

# Compiled programs are kept from run to run and shared by the workers: compiling is
# most of the time that the tests take. Keys hold the program, its options and the
# version of the compiler.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(pathlib.Path(__file__).parent / ".pytest_cache/compiled" / platform.node()),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Hundreds of commands are started: the package is compiled to byte code for the first.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# Three quarters of a cold run were spent in the compiler, 0.4 s a small program; with
# the older emitters of the same loops it is a third of that. What users get is what
# newer versions, which have no such flag, are tested with (`make newest`).
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_force_host_platform_device_count=4",
        *(
            [
                "--xla_cpu_use_fusion_emitters=false",
                "--xla_cpu_parallel_codegen_split_count=1",
            ]
            if importlib.metadata.version("jaxlib").startswith("0.10.")
            else []
        ),
        os.environ.get("XLA_FLAGS", ""),  # wins
    ]
)
# Laws that no code generator may change (formulas, derivatives, words, routing) are
# tested on programs compiled without optimisation, in a third of the time; laws of bits
# and of speed, marked `optimized`, on what users run, as is all of `make matrix`.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(
    int(os.environ.get("HEADWISE_OPTIMIZED", "0") == "0")
)

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import flags

import headwise as hw

jax.config.update("jax_numpy_rank_promotion", "raise")

# Children have what the test has that starts them.
_VARIABLE = "JAX_DISABLE_MOST_OPTIMIZATIONS"
_ALL_OPTIMIZED = os.environ[_VARIABLE] == "0"


def _share_contexts(programs: int) -> None:
    """Has so many programs lowered in one context of MLIR: JAX makes one for each.

    It takes 3 ms to make, and more to be freed, 20,000 times in a run: an eighth of it.
    What is built while a context is open would become a part of that, so it gets a new
    one, and so does a thread.
    """
    from jax.extend.lowering import JaxIrContext

    create, initialize = JaxIrContext.__new__, JaxIrContext.__init__
    kept: list[Any] = [None, 0]
    main = threading.main_thread()

    def new(cls: type) -> Any:
        shared = cls.current is None and threading.current_thread() is main
        if shared and kept[1]:
            kept[1] -= 1
            return kept[0]
        context = create(cls)
        initialize(context)
        if shared:
            kept[:] = context, programs - 1
        return context

    JaxIrContext.__new__ = new
    JaxIrContext.__init__ = lambda self: None


if jax.__version__.startswith("0.10.") and not _ALL_OPTIMIZED:
    with contextlib.suppress(ImportError):  # the first of these have no such module
        _share_contexts(programs=100)


def pytest_configure() -> None:
    """Absl flags are read outside `app.run` here (chex, grain).

    Tests in the background of a shell inherit that SIGINT is ignored, and would hand
    it on to the commands that they interrupt.
    """
    flags.FLAGS.mark_as_parsed()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """`-n auto`: one more than there are cores, if memory allows.

    Some tests wait for engines, browsers and commands; others may compute meanwhile.
    What a user has set goes before, and xdist itself answers where Linux does not.
    """
    given = "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ
    if given or not hasattr(os, "sched_getaffinity"):
        return None
    cores = len(os.sched_getaffinity(0))
    room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return cores + (room > 4 * 2**30 * (cores + 1))


_OF_BITS = ("tests/launch/", "tests/sweeps/")
_BUT_NOT = ("tests/sweeps/members", "tests/sweeps/slopes")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Files of optimised programs first: a worker then changes but once."""
    for item in items:
        page = item.path.name.endswith("page_test.py")
        formulas = page or item.nodeid.startswith(_BUT_NOT)
        if item.nodeid.startswith(_OF_BITS) and not formulas:
            item.add_marker("optimized")
    items.sort(key=lambda item: item.get_closest_marker("optimized") is None)
    if config.getoption("cov_source", None):
        _measure_some(items)


def pytest_collection_finish() -> None:
    """Has less looked at for garbage: neither what is imported, nor as often.

    Tracing makes objects by the million, nearly all of which go without a search.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _measure_some(items: list[pytest.Item]) -> None:
    """Of the cases of a test the first and each eighth are measured, of slow none.

    Following each line of JAX doubles the time of what is traced, to learn nothing new.
    """
    functions: dict[str, itertools.count] = {}
    for item in items:
        name, _, case = item.nodeid.partition("[")
        # Functions begin at different cases, so that together they show all.
        known = name in functions
        number = functions.setdefault(name, itertools.count(len(functions)))
        measured = next(number) % 8 == 0 or not (case and known)
        if not measured or item.get_closest_marker("slow"):
            item.add_marker("no_cover")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Has programs compiled as the test wants them; jit does not tell them apart."""
    marked = item.get_closest_marker("optimized") is not None
    wanted = str(int(not (_ALL_OPTIMIZED or marked)))
    if os.environ[_VARIABLE] != wanted:
        os.environ[_VARIABLE] = wanted
        jax.config.update("jax_disable_most_optimizations", wanted == "1")
        jax.clear_caches()


@pytest.fixture
def commands() -> Iterator[list[subprocess.Popen]]:
    """The processes that a test starts: killed when it ends, however it ends.

    Their pipes are closed, too: else a later test would be told of them.
    """
    started: list[subprocess.Popen] = []
    yield started
    with contextlib.ExitStack() as stack:
        for process in started:
            stack.enter_context(process)  # closes its pipes, waits
            stack.callback(process.kill)


_MAPS = pathlib.Path("/proc/self/maps")
_MANY_MAPS = 20_000
_STATM = pathlib.Path("/proc/self/statm")
_MANY_BYTES = 11 * 2**28  # of the 3 GB that a worker may have
_seen = 0
_kept_bytes = 0


def _resident_bytes() -> int:
    """Memory of this process, 0 where it cannot be read."""
    if not _STATM.exists():
        return 0
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _maps() -> int:
    """Of this process, 0 where they cannot be counted. Takes up to 20 ms."""
    return _MAPS.read_bytes().count(b"\n") if _MAPS.exists() else 0


@pytest.fixture(autouse=True)
def room_for_programs() -> Iterator[None]:
    """Forgets compiled programs before they fill the process.

    Each holds some memory, and a few memory maps for good: at 65,530 of them
    (vm.max_map_count) the compiler crashes, and a worker compiles that much in a
    quarter of an hour. What is needed again comes from the cache on disk.
    """
    yield
    global _seen, _kept_bytes
    _seen += 1
    if _seen % 10:
        return
    many_maps = _seen % 50 == 0 and _maps() > _MANY_MAPS
    # What clearing could not free must not make every tenth test clear again.
    if many_maps or _resident_bytes() > max(_MANY_BYTES, 1.25 * _kept_bytes):
        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        _kept_bytes = _resident_bytes()


@pytest.fixture(autouse=True)
def example_names(doctest_namespace: dict) -> None:
    """The imports that every example in a docstring may take for granted."""
    doctest_namespace.update(hw=hw, jax=jax, jnp=jnp, np=np, optax=optax)
