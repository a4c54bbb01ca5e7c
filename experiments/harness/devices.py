"""An experiment on a mesh of devices, and in half precision: what two flags ask for.

The devices may be those of several processes (`jax.distributed`), which run the same
command; the first of them prints and writes.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import jax

import headwise as hw
from experiments.harness import text
from experiments.harness.spec import Experiment
from experiments.harness.text import UsageError

_SHORT = {"bfloat16": "bf16", "float16": "f16"}
"""As programs are printed."""


def speaks() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Prints nothing but in the first process."""
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as opened:
        if not speaks():
            opened.enter_context(contextlib.redirect_stdout(nowhere))
        yield


def make_mesh(axes: Mapping[str, int] | None) -> jax.sharding.Mesh | None:
    """The first devices that are there, along named axes; None for None.

    Raises:
        UsageError: there are fewer; or not all of several processes have a part.
    """
    there, processes = jax.devices(), jax.process_count()
    if processes > 1 and (axes is None or math.prod(axes.values()) != len(there)):
        raise UsageError(
            f"--mesh: expected all {len(there)} devices of {processes} processes that "
            f"train together, such as data:{len(there)}, got {text.mesh_text(axes)}"
        )
    if axes is None:
        return None
    number = math.prod(axes.values())
    if number > len(there):
        raise UsageError(
            f"--mesh: expected at most the {len(there)} devices that are there "
            f"({jax.default_backend()}), got {' * '.join(map(str, axes.values()))}; "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={number} makes a CPU "
            "look like so many"
        )
    auto = (jax.sharding.AxisType.Auto,) * len(axes)
    sizes, names = tuple(axes.values()), tuple(axes)
    return jax.make_mesh(sizes, names, axis_types=auto, devices=there[:number])


def on_mesh(experiment: Experiment, mesh: jax.sharding.Mesh) -> Experiment:
    """The experiment with its batches and parameters split over the mesh.

    A batch is one program: made whole, of which each process computes its part.

    Raises:
        UsageError: the devices do not divide a batch.
    """
    axis = "model" if "model" in mesh.axis_names else "data"

    def init(key: Any) -> tuple[Any, Any]:
        params, rest = experiment.init(key)
        places = hw.training.fsdp_shardings(params, mesh, axis)
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(params)):
            return jax.lax.with_sharding_constraint(params, places), rest
        return jax.device_put(params, places), rest

    def batch(key: jax.Array) -> Any:
        return hw.training.shard_batch(experiment.batch(key), mesh)

    if jax.process_count() > 1:  # what comes from outside of a program is a part
        batch = jax.jit(batch)
    try:
        jax.eval_shape(batch, jax.random.key(0))
    except ValueError as error:
        raise UsageError(f"--mesh: {error}") from error
    return experiment._replace(init=init, batch=batch)


def check_dtype(experiment: Experiment, dtype: str) -> None:
    """A UsageError if the model computes nothing in this dtype."""

    def run(key: jax.Array) -> Any:
        params, rest = experiment.init(key)
        return experiment.values_fn(params, rest, experiment.batch(key), key)

    program = str(jax.make_jaxpr(run)(jax.random.key(0)))
    if not re.search(rf"\b{_SHORT[dtype]}\[", program):
        raise UsageError(
            f"--dtype: nothing of this experiment is computed in {dtype}; let its "
            "build(settings) give settings.get('dtype') to "
            "hw.nn.functional(model, dtype=)"
        )


def loss_scale(dtype: str | None) -> hw.training.LossScale | None:
    """What small gradients need to survive: float16 alone."""
    return hw.training.dynamic_loss_scale() if dtype == "float16" else None
