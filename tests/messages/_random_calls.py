"""Calls of the public API with arguments at random, and what must hold of each.

    python -m tests.messages._random_calls --calls=2000 --seed=1

prints the calls that hang, change what they were given, raise something else than a
TypeError or ValueError in words of the library, or answer finite arguments with NaN.
"""

import argparse
import collections
import dataclasses
import inspect
import linecache
import logging
import pathlib
import signal
import sys
import traceback
import warnings

import jax
import jax.numpy as jnp
import numpy as np

import headwise as hw
from tests.messages import _arguments
from tests.messages import _odd

LIBRARY = str(pathlib.Path(hw.__file__).parent)
SECONDS = 60
LAYERS = (
    "balancers",
    "data",
    "gradients",
    "losses",
    "metrics",
    "nn",
    "objective",
    "pareto",
    "reports",
    "solvers",
    "sweeps",
    "training",
)
# Files and folders are other tests'; the parts of `linearize` are for those who know.
LEFT_OUT = {
    "data": ("brain_", "load_", "multi_", "read_", "split_digits"),
    "gradients": ("linearize",),
    "nn": ("ConvNet", "UNet3D", "matmul_convolution", "unite"),
    "objective": ("pmean",),
    "reports": (
        *("curves_picture", "front_picture", "heads_picture", "weights_picture"),
        "write_report",
    ),
    "sweeps": (
        *("append", "curves", "describe", "made_with", "read", "status", "table"),
        *("to_csv", "to_par", "verify", "watch"),
    ),
    "training": ("Checkpoints", "claim", "hold_workdir", "program", "read"),
}
MODULES = ("Mlp", "MultiHead", "SourceBatchNorm")  # `__init__` says what they take
NO_ARGUMENTS = ("ax", "axis_name", "checkpoint_every", "folder", "label")
NO_ARGUMENTS += ("made_with", "retry", "workdir")
# Newer than the calls that are drawn from the same numbers.
NO_ARGUMENTS += (
    "cohorts",
    "figure",
    "halving",
    "here",
    "profile",
    "search",
    "stop_on_failure",
    "track",
    "workers",
    "workers_here",
)
# What is said of these is that they may be NaN: nothing counts, or it has no answer.
MAY_BE_NAN = ("solvers", "reports", "pareto", "gradients.cosines", "losses.scale_inv")


def roster():
    """{layer.name: callable}: no plain records of fields."""
    found = {}
    for layer in LAYERS:
        module = getattr(hw, layer)
        for name in module.__all__:
            function = getattr(module, name)
            left_out = name.startswith(LEFT_OUT.get(layer, "-"))
            fields = hasattr(function, "_fields") or dataclasses.is_dataclass(function)
            fields = fields and name != "Means"
            typed = isinstance(function, type) and issubclass(function, dict)
            typed = typed and name != "Means"
            error = isinstance(function, type) and issubclass(function, Exception)
            if callable(function) and not (left_out or fields or typed or error):
                found[f"{layer}.{name}"] = function
    return found


ROSTER = roster()
NEWER = ("data.epochs", "data.mix", "nn.SourceBatchNorm")
"""Drawn apart, so that the calls of a number stay what they are as functions come."""
STUDIES = tuple(
    f"sweeps.{name}" for name in ("halved", "halving", "latin", "search", "trials")
)
"""Drawn apart from those again."""
MEASURES = (
    *(f"pareto.{name}" for name in ("additive_epsilon", "attainment", "crowding")),
    *(f"pareto.{name}" for name in ("ideal", "igd_plus", "knee", "nadir", "ranks")),
    "reports.compare",
    "sweeps.slopes",
)
"""And these."""
CHECKS = ("sweeps.check", "training.mlflow_tracker", "training.wandb_tracker")
"""And these."""
APART = (*NEWER, *STUDIES, *MEASURES, *CHECKS)
FIRST = tuple(name for name in ROSTER if name not in APART)


class HangsError(Exception):
    """A call took longer than it may."""


@dataclasses.dataclass
class Call:
    """One call: what was called with what, and what came of it."""

    name: str
    number: int
    given: dict
    shapes: _arguments.Shapes
    faults: list
    error: BaseException | None = None

    def __str__(self):
        given = ", ".join(f"{k}={_short(v)}" for k, v in self.given.items())
        told = f"{type(self.error).__name__}: {self.error}" if self.error else ""
        at = traceback.extract_tb(self.error.__traceback__)[-1] if self.error else ""
        where = f" at {at.filename.split('/')[-1]}:{at.lineno}" if at else ""
        return f"{self.number} {self.faults} {self.name}({given}) {told[:160]}{where}"


def _short(value):
    if isinstance(value, np.ndarray | jax.Array):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)[:60].replace("\n", " ")


def parameters(function):
    """The parameters that a call may give."""
    made = function.__init__ if isinstance(function, type) else function
    if inspect.isclass(function) and function.__name__ in MODULES:
        found = list(inspect.signature(made).parameters.values())[1:]
    else:
        found = inspect.signature(function).parameters.values()
    return [
        p
        for p in found
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and p.name not in (*NO_ARGUMENTS, "rngs", "dtype")
    ]


def drawn(name, rng, shapes):
    """Arguments by name; of some calls one or two that are hostile."""
    given = {}
    for p in parameters(ROSTER[name]):
        if p.default is p.empty or rng.random() < 0.3 or p.name == "progress":
            given[p.name] = _arguments.natural(rng, shapes, p.name)
    if given and rng.random() < 0.75:
        for p in rng.sample(sorted(given), min(len(given), rng.choice([1, 1, 2]))):
            if p != "progress":
                given[p] = _odd.hostile(rng)
    if name in ("nn.Mlp", "nn.SourceBatchNorm"):
        given["rngs"] = _arguments.nnx.Rngs(0)
    return given


def follow(name, result, rng, shapes):
    """What one does with a result: a balancer, a loss, a transformed function."""
    s = shapes
    if isinstance(result, hw.Balancer):
        params = {"w": np.ones(3, np.float32)}
        state = result.init(_arguments.HEADS, params)
        grads = _arguments.natural(rng, s, "grads")
        signals = hw.Signals(
            values=s.numbers(-1 if rng.random() < 0.3 else 0.1, 2, (2,)),
            gram=_arguments.natural(rng, s, "gram"),
            grads=grads if result.needs == "grads" else None,
            step=0,
            key=jax.random.key(s.seed),
        )
        return result.update(signals, state)[0]
    if isinstance(result, hw.Objective):
        arrays = {h: s.preds() for h in result._losses}
        return result(arrays, {h: s.targets() for h in arrays}, step=0)
    if name in ("losses.mix", "losses.deep_supervision"):
        preds = s.preds()
        return result([preds, preds] if "deep" in name else preds, s.targets())
    if name in ("gradients.head_grads", "gradients.head_gramian", "gradients.with_aux"):
        return result(_arguments.params())
    if name == "training.balanced_grad":
        return None  # its state is another's
    if name == "training.make_step":
        return result(_arguments.state(), np.float32(1.0))
    return result


def _arrays(tree):
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: x is None)
    return [x for x in leaves if isinstance(x, np.ndarray | jax.Array | float | int)]


def _has_nan(tree):
    arrays = [jnp.asarray(x) for x in _arrays(tree) if not isinstance(x, int)]
    floats = [x for x in arrays if jnp.issubdtype(x.dtype, jnp.inexact)]
    return any(bool(jnp.any(jnp.isnan(x))) for x in floats)


def _finite(tree):
    for x in _arrays(tree):
        try:
            if not np.all(np.isfinite(np.asarray(x, np.complex64))):
                return False
        except (TypeError, OverflowError):  # keys; ints that no float holds
            return isinstance(x, jax.Array)
    return True


def _copy(tree):
    """A picture of the arguments, to compare with later."""
    if isinstance(tree, dict):
        return {k: _copy(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_copy(v) for v in tree]
    return tree.copy() if isinstance(tree, np.ndarray) else tree


def _same(one, other):
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    return one is other


def in_own_words(error):
    """Whether a `raise` of the library made it, or Python when it bound arguments.

    An argument that is a function of the caller may say what it will.
    """
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    if last.filename.startswith(LIBRARY):
        return linecache.getline(last.filename, last.lineno).strip().startswith("raise")
    ours = [f.filename for f in frames if "/jax/" not in f.filename]
    # What the caller's own functions say, or an optimiser or loss of optax, is theirs.
    return ours[-1].endswith(("_random_calls.py", "_arguments.py")) or (
        "/optax/" in ours[-1]
    )


def one(number, seed, names=FIRST):
    """The call of this number, with what is wrong about it in `faults`."""
    rng = _arguments.generator(seed, number)
    shapes = _arguments.Shapes.drawn(rng)
    name = rng.choice(sorted(names))
    given = drawn(name, rng, shapes)
    before = _copy(given)
    call = Call(name, number, given, shapes, [])

    def late(*_):
        raise HangsError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        result = follow(name, ROSTER[name](**given), rng, shapes)
        exempt = name.startswith(MAY_BE_NAN)
        if not exempt and _finite(before) and _has_nan(result):
            call.faults.append("NaN")
    except (TypeError, ValueError) as error:
        call.error = error
        if not in_own_words(error):
            call.faults.append("words")
    except (FloatingPointError, ModuleNotFoundError) as error:
        call.error = error  # of `fit`; of an extra that is not installed
    except HangsError as error:
        call.error = error
        call.faults.append("hangs")
    except Exception as error:
        call.error = error
        last = traceback.extract_tb(error.__traceback__)[-1]
        if not last.filename.endswith("_arguments.py"):  # the caller's own function
            call.faults.append("type")
    finally:
        signal.alarm(0)
    if not _same(before, given):
        call.faults.append("changed")
    return call


def run(calls, seed, start=0, names=FIRST):
    """Calls from `start` on, of these names."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield from (
                one(number, seed, names) for number in range(start, start + calls)
            )
    finally:
        logging.disable(before)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    options = parser.parse_args(argv)
    counts = collections.Counter()
    names = tuple(ROSTER)
    for call in run(options.calls, options.seed, options.start, names):
        counts["calls"] += 1
        counts["raised"] += call.error is not None
        counts.update(call.faults)
        if call.faults:
            print(call, flush=True)
    print(dict(counts))
    return int(any(counts[fault] for fault in ("type", "NaN", "changed", "hangs")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
