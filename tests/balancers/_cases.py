"""One row a factory in `hw.balancers`: options to run it with, and those it refuses.

All that is tested of every balancer (contract, absent heads, edges, misuse, options,
rosters) takes it from here; a factory without a row fails `rosters_test.py` by name.
"""

import inspect

import optax

import headwise as hw
from tests.balancers import _bad
from tests.balancers import _case

NAMES = _case.NAMES
GRAM = ("gram",)
WANTED = {"preferences": _bad.BY_NAME.of(_bad.NONNEGATIVE)}
WANTED_POSITIVE = {"preferences": _bad.BY_NAME.of(_bad.POSITIVE)}
WRAPPED = {"balancer": _bad.BALANCER}

FROM_VALUES = {
    "constant": _case.Case(
        lambda names: {"weights": _case.by_letter(_case.WEIGHTS, names)},
        {"weights": _bad.BY_NAME},
    ),
    "cosmos": _case.Case(
        lambda names: {"penalty": 0.5, **_case.wanted(names)},
        {"penalty": _bad.NONNEGATIVE, **WANTED},
        signed=True,
    ),
    "dwa": _case.Case(bad={"temperature": _bad.POSITIVE, "window": _bad.POSITIVE_INT}),
    "equal": _case.Case(label="constant"),
    "famo": _case.Case(
        lambda names: {
            "second_forward": False,
            "min_values": _case.by_letter(_case.REFERENCE, names),
        },
        {
            "second_forward": _bad.BOOLEAN,
            "min_values": _bad.BY_NAME.of(_bad.NUMBER),
            "optimizer": _bad.OPTIMIZER,
            "learning_rate": _bad.POSITIVE,
            "decay": _bad.NONNEGATIVE,
        },
    ),
    "gls": _case.Case(bad=WANTED),
    "go4align": _case.Case(
        _case.fixed(groups=2, step_size=0.1),
        {
            "groups": _bad.POSITIVE_INT,
            "step_size": _bad.NONNEGATIVE,
            "iterations": _bad.POSITIVE_INT,
        },
    ),
    "imtl_l": _case.Case(
        _case.fixed(optimizer=optax.adam(0.1)),
        {"optimizer": _bad.OPTIMIZER, "initial": _bad.LOG_WEIGHT},
    ),
    "ldc": _case.Case(
        _case.fixed(optimizer=optax.adam(0.1)),
        {
            "penalty": _bad.NONNEGATIVE,
            "optimizer": _bad.OPTIMIZER,
            "pairs": _bad.CHOICE,
        },
    ),
    "p_norm": _case.Case(
        lambda names: {"p": 3.0, **_case.wanted(names)},
        {"p": _bad.AT_LEAST_ONE, **WANTED},
    ),
    "pbi": _case.Case(
        lambda names: {"theta": 2.0, **_case.wanted_from(names)},
        {
            "theta": _bad.NONNEGATIVE,
            "reference": _bad.BY_NAME.of(_bad.NUMBER),
            **WANTED,
        },
        signed=True,
    ),
    "random_weighting": _case.Case(
        bad={"distribution": _bad.CHOICE}, signals=("key",), random=True
    ),
    "relobralo": _case.Case(
        _case.fixed(alpha=0.5, rho=0.5),
        {
            "alpha": _bad.FRACTION,
            "temperature": _bad.POSITIVE,
            "rho": _bad.FRACTION,
        },
        signals=("key",),
    ),
    "scalarization": _case.Case(
        _case.fixed(function=_case.sum_of_squares),
        {
            "function": _bad.FUNCTION,
            "preferences": _bad.BY_NAME.of(_bad.NUMBER),
        },
    ),
    "scheduled": _case.Case(
        lambda names: {"weights": _case.by_letter(_case.SCHEDULES, names)},
        {"weights": _bad.BY_NAME},
        signals=("step",),
    ),
    "softadapt": _case.Case(
        _case.fixed(beta=1.0, normalized=True, loss_weighted=True),
        {
            "beta": _bad.NUMBER,
            "normalized": _bad.BOOLEAN,
            "loss_weighted": _bad.BOOLEAN,
        },
    ),
    "stch": _case.Case(
        _case.fixed(smoothness=0.5, warm_up=1),
        {
            "smoothness": _bad.POSITIVE,
            "reference": _bad.BY_NAME.of(_bad.NUMBER).given(warm_up=0),
            "warm_up": _bad.NONNEGATIVE_INT,
            "window": _bad.POSITIVE_INT,
            **WANTED,
        },
    ),
    "stch_set": _case.Case(
        _case.fixed(smoothness=0.5),
        # jax says which names of axes there are.
        {"smoothness": _bad.POSITIVE, "axis_name": _bad.ANYTHING},
    ),
    "tchebycheff": _case.Case(
        _case.wanted_from,
        {
            "reference": _bad.BY_NAME.of(_bad.NUMBER),
            "modified": _bad.BOOLEAN,
            **WANTED,
        },
    ),
    "uncertainty": _case.Case(
        lambda names: {
            "kinds": _case.by_letter(_case.KINDS, names),
            "optimizer": optax.adam(0.1),
        },
        {
            "kinds": _bad.CHOICE,
            "initial": _bad.LOG_WEIGHT,
            "optimizer": _bad.OPTIMIZER,
        },
    ),
    "uw_so": _case.Case(_case.fixed(temperature=0.5), {"temperature": _bad.POSITIVE}),
}

FROM_GRAMIAN = {
    "aligned_mtl": _case.Case(
        bad={"scale": _bad.CHOICE, **WANTED}, signals=GRAM, signed=True
    ),
    "cagrad": _case.Case(
        bad={"c": _bad.NONNEGATIVE, "rescale": _bad.CHOICE}, signals=GRAM
    ),
    "config": _case.Case(
        bad={"momentum": _bad.BELOW_ONE, **WANTED_POSITIVE}, signals=GRAM, signed=True
    ),
    "dualproj": _case.Case(bad=WANTED, signals=GRAM),
    "epo": _case.Case(
        _case.wanted,
        {
            "epsilon": _bad.NONNEGATIVE,
            "relaxed": _bad.BOOLEAN,
            **WANTED_POSITIVE,
        },
        GRAM,
    ),
    "fairgrad": _case.Case(_case.fixed(alpha=2.0), {"alpha": _bad.POSITIVE}, GRAM),
    "gradnorm": _case.Case(
        bad={"alpha": _bad.NONNEGATIVE, "optimizer": _bad.OPTIMIZER}, signals=GRAM
    ),
    "gradvac": _case.Case(
        bad={"beta": _bad.FRACTION, "groups": _bad.CHOICE},
        signals=("gram", "key"),
        signed=True,
        random=True,
    ),
    "imtl": _case.Case(bad={"optimizer": _bad.OPTIMIZER}, signals=GRAM, signed=True),
    "imtl_g": _case.Case(signals=GRAM, signed=True),
    "krum": _case.Case(
        _case.fixed(faulty=0, selected=2),
        {"faulty": _bad.NONNEGATIVE_INT, "selected": _bad.POSITIVE_INT},
        GRAM,
    ),
    "mgda": _case.Case(
        bad={"normalization": _bad.CHOICE, "normalized_update": _bad.BOOLEAN},
        signals=GRAM,
    ),
    "modo": _case.Case(
        bad={
            "learning_rate": _bad.POSITIVE,
            "regularization": _bad.NONNEGATIVE,
            "batches": _bad.CHOICE,
        },
        signals=GRAM,
    ),
    "nash_mtl": _case.Case(
        bad={"max_norm": _bad.POSITIVE_OR_INF, "normalized": _bad.BOOLEAN},
        signals=GRAM,
    ),
    "pcd": _case.Case(
        lambda names: {"primary": max(names, key=lambda name: name[-1])},
        {
            "primary": _bad.NAME,
            "margin": _bad.FRACTION,
            "decay": _bad.BELOW_ONE,
        },
        GRAM,
        primary="c",
    ),
    "pcgrad": _case.Case(signals=("gram", "key"), random=True),
    "pmgda": _case.Case(
        _case.wanted,
        {
            "sigma": _bad.FRACTION_NOT_ZERO,
            "tolerance": _bad.NONNEGATIVE,
            **WANTED_POSITIVE,
        },
        GRAM,
        signed=True,
    ),
    "sdmgrad": _case.Case(
        bad={
            "regularization": _bad.NONNEGATIVE,
            "learning_rate": _bad.POSITIVE,
            "momentum": _bad.BELOW_ONE,
            "iterations": _bad.POSITIVE_INT,
            "batches": _bad.CHOICE,
        },
        signals=GRAM,
    ),
    "upgrad": _case.Case(
        lambda names: {"preferences": _case.by_letter(_case.WEIGHTS, names)},
        WANTED,
        GRAM,
    ),
}

FROM_GRADIENTS = {
    "db_mtl": _case.Case(
        bad={
            "beta": _bad.BELOW_ONE,
            "decay": _bad.NONNEGATIVE,
            "epsilon": _bad.NONNEGATIVE,
        },
        signals=("grads",),
        params=True,
    ),
    "excess_mtl": _case.Case(
        _case.fixed(step=1.0),
        {"step": _bad.POSITIVE, "warm_up": _bad.POSITIVE_INT},
        ("grads",),
        params=True,
    ),
    "graddrop": _case.Case(
        lambda names: {"leak": _case.by_letter(_case.LEAK, names)},
        {"leak": _bad.BY_NAME.of(_bad.FRACTION)},
        ("grads", "key"),
    ),
    "moco": _case.Case(
        bad={
            "beta": _bad.FRACTION_NOT_ZERO,
            "gamma": _bad.POSITIVE,
            "rho": _bad.NONNEGATIVE,
            "beta_decay": _bad.NONNEGATIVE,
            "gamma_decay": _bad.NONNEGATIVE,
            "normalized": _bad.BOOLEAN,
            "softmax": _bad.BOOLEAN,
        },
        signals=("grads",),
        params=True,
    ),
    "trimmed_mean": _case.Case(bad={"trim": _bad.NONNEGATIVE_INT}, signals=("grads",)),
}

WRAPPERS = {
    "clip_heads": _case.Case(
        _case.around_mgda(max_norm=1.0),
        {"max_norm": _bad.POSITIVE, **WRAPPED},
        GRAM,
        label="(clip_heads|mgda)",
    ),
    "clipped": _case.Case(
        _case.around_mgda(lower=0.1, upper=0.5),
        {"lower": _bad.NAN, "upper": _bad.NAN, **WRAPPED},
        GRAM,
        label="(clipped|mgda)",
    ),
    "cr_mogm": _case.Case(
        _case.around_mgda(),
        {"smoothing": _bad.BELOW_ONE, **WRAPPED},
        GRAM,
        label="(cr_mogm|mgda)",
    ),
    "every": _case.Case(
        _case.around_mgda(k=1), {"k": _bad.POSITIVE_INT, **WRAPPED}, GRAM
    ),
    "fallback": _case.Case(
        # The same among those that are there: nothing else changes.
        _case.around_mgda(otherwise=hw.balancers.mgda()),
        {"otherwise": _bad.BALANCER, **WRAPPED},
        GRAM,
        label="(fallback|mgda)",
    ),
    "rescaled": _case.Case(
        _case.around_mgda(),
        {"total": _bad.POSITIVE, **WRAPPED},
        GRAM,
        label="(rescaled|mgda)",
    ),
    "smoothed": _case.Case(
        _case.around_mgda(decay=0.7),
        {"decay": _bad.BELOW_ONE, **WRAPPED},
        GRAM,
        label="(smoothed|mgda)",
    ),
    "warm_up": _case.Case(
        _case.around_mgda(steps=1),
        {"steps": _bad.NONNEGATIVE_INT, "observe": _bad.BOOLEAN, **WRAPPED},
        GRAM,
        label="(warm_up|mgda)",
    ),
    "with_preferences": _case.Case(
        lambda names: {"balancer": hw.balancers.mgda(), **_case.wanted(names)},
        {**WRAPPED, **WANTED_POSITIVE},
        GRAM,
        label="(with_preferences|mgda)",
    ),
}

CASES = FROM_VALUES | FROM_GRAMIAN | FROM_GRADIENTS | WRAPPERS


def make(name, names=NAMES):
    """The balancer of a case."""
    return getattr(hw.balancers, name)(**CASES[name].options(names))


def make_plain(name, names=NAMES):
    """With the options that the factory must be given alone."""
    factory = getattr(hw.balancers, name)
    parameters = inspect.signature(factory).parameters.values()
    needed = {p.name for p in parameters if p.default is p.empty}
    options = CASES[name].options(names)
    return factory(**{option: options[option] for option in needed})
