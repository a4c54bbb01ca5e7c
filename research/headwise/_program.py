"""What trains one trial: three pure functions, of `training` for `sweeps`."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from headwise.typing import PyTree


class Program(NamedTuple):
    """Three pure functions that train one trial: all that a sweep knows of training.

    They are traced: what differs between trials are arrays, so that many trials run as
    one compiled program, one beside the other or one after the other. All that is
    random follows from the trial's seed and the step alone: a trial is the same in any
    company, in any order, on any number of devices. `hw.training.program` makes one
    from a `values_fn`, an optimiser and a balancer; any other three will do.

    Example:
        >>> def step(x, t):                       # x after t steps is weight a * t
        ...     slope, x = x
        ...     return (slope, x + slope), {"values": {"a": x}}
        >>> program = hw.sweeps.Program(
        ...     init=lambda trial: (trial["weights"]["a"], jnp.zeros(())),
        ...     step=step,
        ...     evaluate=lambda x: {"x": x[1]},
        ... )
        >>> state = program.init({"weights": {"a": jnp.array(2.0)}, "seed": 0})
        >>> for t in range(3):
        ...     state, report = program.step(state, t)
        >>> print(report["values"]["a"], program.evaluate(state)["x"])
        4.0 6.0
    """

    init: Callable[[Mapping[str, Any]], PyTree]
    """`init(trial)` -> the first state, a pytree of arrays. The trial is {"weights":
    {head: float32 []}, "seed": int32 [], NAME: float32 [] of each number that varies};
    the weights are {} where a balancer finds them."""
    step: Callable[..., tuple[PyTree, Mapping[str, Any]]]
    """`step(state, t)` -> (state, report), with t an int32 scalar from 0 on. The report
    is a dict of arrays or of such dicts, alike in all steps. Two entries are known by
    name: `values`, the raw {head: scalar}, and `finite`, a bool: False stops the trial
    where it was before the step. Without it, values that are not finite stop it."""
    evaluate: Callable[[PyTree], Mapping[str, Any]]
    """`evaluate(state)` -> {metric: scalar}, of the last state."""
    batches: Callable[[int], PyTree] | None = None
    """`batches(t)` -> the batch of step t, of data that stay on the host: not traced,
    read ahead once for all trials that run together, and given to `step(state, t,
    batch)`. It has to give the same arrays whenever it is asked for the same step.
    None: a step makes its own batch."""
