"""The largest size that fits, by few looks; what is free, by what the system says."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from headwise.sweeps._cohort import _memory
from tests.sweeps import _peak

ROOT = pathlib.Path(__file__).parents[2]


def counted(need):
    """The function, and the sizes that it was asked for."""
    asked = []

    def count(size):
        asked.append(size)
        return need(size)

    return count, asked


def stairs(size):
    """Memory as compilers tell it: aligned, and with a step upwards."""
    return 1000 * -(-size // 8) + (5000 if size > 40 else 0)


NEEDS = {
    "a line": lambda size: 100 + 10 * size,
    "a line from nothing": lambda size: 7 * size,
    "a square": lambda size: size**2,
    "constant": lambda size: 300,
    "stairs": stairs,
    "unknown above 16": lambda size: float("inf") if size > 16 else 10 * size,
}


@pytest.mark.parametrize("need", NEEDS.values(), ids=NEEDS)
@pytest.mark.parametrize("most", [1, 2, 7, 64, 256, 1000])
@pytest.mark.parametrize("limit", [0, 9, 100, 310, 2000, 7010, None])
def test_the_largest_size_is_found_by_few_looks(need, most, limit):
    fitting = [
        size for size in range(1, most + 1) if limit is None or need(size) <= limit
    ]
    largest = max(fitting, default=0)
    asking, asked = counted(need)
    assert _memory.largest(asking, most, limit) == largest
    assert len(asked) == len(set(asked)) <= 2 * most.bit_length() + 1
    # In equal pieces: as few as possible, and as small as that many allow.
    asking, asked = counted(need)
    even = _memory.largest(asking, most, limit, even=True)
    if largest:
        number = -(-most // largest)
        assert even == -(-most // number)
    else:
        assert even == 0
    assert len(asked) <= 2 * most.bit_length() + 1


def test_what_fits_takes_one_look_and_a_line_few():
    asking, asked = counted(NEEDS["a line"])
    assert _memory.largest(asking, 256, 10_000) == 256
    assert asked == [256]
    asking, asked = counted(NEEDS["a line"])
    assert _memory.largest(asking, 256, 1000, even=True) == 86  # three pieces of 90
    assert len(asked) <= 4


def test_a_program_takes_what_it_reads_writes_and_holds_between():
    x = jnp.ones((256, 256))  # 2^18 bytes

    def used(function, **options):
        return _memory.used(jax.jit(function, **options).lower(x).compile())

    assert used(lambda x: x + 1) == 2 * x.nbytes
    assert used(lambda x: x + 1, donate_argnums=0) == x.nbytes
    # The first product is held between, and what is not told of is added.
    assert used(lambda x: x @ x @ x) == (2 + _memory.UNTOLD) * x.nbytes


@pytest.mark.skipif(
    not (_peak.PROC / "clear_refs").exists(), reason="Linux tells the peak"
)
def test_a_vmapped_loop_takes_no_more_than_is_said():
    done = subprocess.run(
        [sys.executable, "-m", "tests.sweeps._peak"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "research:."},
        stdout=subprocess.PIPE,
        check=True,
    )
    told = json.loads(done.stdout)
    rows = 32 * _peak.ROWS * _peak.WIDTH * 4  # bytes of an activation
    assert 3 * rows < told["said"]  # two and a cotangent
    assert 3 * rows < told["real"] <= told["said"]
    assert 0.45 * told["said"] < told["half"] < 0.55 * told["said"]


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Writes files of a system of our own; free() of it."""
    monkeypatch.setattr(_memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(_memory, "_CGROUP", tmp_path / "cgroup")

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return _memory.free()

    return write


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    1000 kB\n"}
"""A million bytes, of which nine tenths are given away: 921600."""
V2 = "0::/user/job\n"
V1 = "5:memory:/docker/1\n4:cpu:/docker/1\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 921600),
        ({"proc/self/cgroup": "0::/\n"}, 921600),
        # the group of a parent is the tighter one; files that were read go when needed
        (
            {
                "proc/self/cgroup": V2,
                "cgroup/user/job/memory.max": "max\n",
                "cgroup/user/job/memory.current": "5\n",
                "cgroup/user/job/memory.stat": "anon 1\n",
                "cgroup/user/memory.max": "500000\n",
                "cgroup/user/memory.current": "450000\n",
                "cgroup/user/memory.stat": "anon 5\ninactive_file 50000\n",
            },
            90000,
        ),
        # in a container the path is the host's
        (
            {
                "proc/self/cgroup": V2,
                "cgroup/memory.max": "300000\n",
                "cgroup/memory.current": "200000\n",
                "cgroup/memory.stat": "anon 5\n",
            },
            90000,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "cgroup/memory/docker/1/memory.limit_in_bytes": "300000\n",
                "cgroup/memory/docker/1/memory.usage_in_bytes": "250000\n",
                "cgroup/memory/docker/1/memory.stat": (
                    "cache 9\ntotal_inactive_file 50000\n"
                ),
            },
            90000,
        ),
        # used beyond the limit, for a moment
        (
            {
                "proc/self/cgroup": "0::/\n",
                "cgroup/memory.max": "300000\n",
                "cgroup/memory.current": "300001\n",
                "cgroup/memory.stat": "anon 5\n",
            },
            0,
        ),
    ],
)
def test_what_is_free_on_a_host(system, files, expected):
    assert system(MEMINFO | files) == expected


def test_a_system_that_tells_nothing_has_half_of_its_pages_free(system, monkeypatch):
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4000}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    assert system({}) == 1_800_000
    monkeypatch.delattr("os.sysconf")
    assert system({}) is None


class Device:
    """One with memory of its own."""

    platform = "gpu"

    def __init__(self, stats):
        self.memory_stats = lambda: stats


def test_what_is_free_on_a_device():
    stats = {"bytes_limit": 1000, "bytes_in_use": 400, "peak_bytes_in_use": 900}
    assert _memory.free(Device(stats)) == 540
    assert _memory.free(Device(None)) is None
    assert _memory.free(Device({"num_allocs": 3})) is None


def test_this_machine_has_some():
    assert 0 < _memory.free() < 2**50
