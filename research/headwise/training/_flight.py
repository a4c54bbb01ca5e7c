"""A chunk that the device works on, while the host does something else."""

import functools
import time
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from headwise.training import _chunks
from headwise.training import _feed
from headwise.training import _told


class Flight(NamedTuple):
    """A chunk that was given to the device."""

    state: Any
    """After its steps."""
    done: int
    """Number of steps done then."""
    leg: int
    """Number of steps up to which nobody else wants the state."""
    block: _feed.Block
    wait: Callable[[], _told.Told]
    """Waits for its end; what its steps told."""
    started: float
    """When, by `time.perf_counter`."""


def start(
    chunk: _chunks.Chunk, state: Any, block: _feed.Block, done: int, leg: int
) -> Flight:
    """Gives a chunk to the device.

    Args:
        chunk: its program.
        state: after `done` steps; its arrays are given for good.
        block: its batches.
        done: number of steps before it.
        leg: up to where it might go.
    """
    started = time.perf_counter()
    with mark(done):
        number = np.int32(block.number)
        state, told = chunk.run(state, block.still, block.moving, number)
    for x in jax.tree.leaves(told):
        x.copy_to_host_async()
    wait = functools.partial(chunk.told, told, block.number)
    return Flight(state, done + block.number, leg, block, wait, started)


def mark(step: int) -> Any:
    """Names what is done inside as that step, or those from it on, in a profile."""
    return jax.profiler.StepTraceAnnotation("step", step_num=step)
