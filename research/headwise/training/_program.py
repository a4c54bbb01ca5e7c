"""A training as a program for sweeps: a trial's first state, its step, its metrics."""

import inspect
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import jax
import optax

from headwise import _checks
from headwise import _scalars
from headwise import balancers
from headwise._program import Program
from headwise.training import _bilevel
from headwise.training import _bilevel_step
from headwise.training import _first_state
from headwise.training import _loss_scale
from headwise.training import _model
from headwise.training import _of_step
from headwise.training import _of_trial
from headwise.training import _reading
from headwise.training import _reported
from headwise.training import _state
from headwise.training import _step
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


class ProgramState(NamedTuple):
    """A trial, whose numbers are data, and the state of its training."""

    trial: _of_trial.Trial
    training: Any
    """`TrainState`, or `BilevelState`."""


def program(
    values_fn: ValuesFn,
    optimizer: optax.GradientTransformation | Callable[[Mapping[str, Any]], Any],
    balancer: balancers.Balancer
    | _bilevel.BilevelMethod
    | Callable[[Mapping[str, Any]], Any]
    | None = None,
    *,
    init: Callable[[Array], Any],
    batch: Callable[..., Any] | None = None,
    batches: Callable[[int], Any] | Iterable[Any] | None = None,
    evaluate: Callable[[PyTree, PyTree], Mapping[str, Any]],
    stateful: bool = False,
    trainable: Any = None,
    loss_scale: _loss_scale.LossScale | float | None = None,
    eval_params: Callable[[Any], PyTree] | None = None,
    **options: Any,
) -> Program:
    """A training as three pure functions, for `hw.sweeps.run`.

    A step is that of `make_step`, and a trial comes to the numbers of `fit` with the
    same keys, which follow from its seed alone::

        params(0) = init(key0),  batch(t) = batch(fold_in(fold_in(key(seed), 1), t))
        key0, key of the run = split(key(seed))

    The trial's weights, its seed and what else varies are arrays in the state, so that
    all trials share one program.

    Args:
        values_fn: `(params, batch) -> {name: scalar}`; with `stateful`,
            `(params, rest, batch, key) -> ({name: scalar}, rest)`, as in `make_step`.
        optimizer: of optax, or a function that makes it of a trial: `lambda trial:
            optax.adam(trial["lr"])` with `vary={"lr": [...]}` of `hw.sweeps.run`. The
            numbers are arrays; a number that must be Python's (a whole number of
            steps, say) goes in its `static`.
        balancer: None: the trial's weights, static (`hw.balancers.constant`), or as in
            `make_step` where it has none. A balancer, or a method of bilevel training,
            that finds the weights: for trials without any. Or a function of the trial
            that makes one: `lambda trial: hw.balancers.cagrad(c=trial["c"])`.
        init: `init(key)` -> params; with `stateful`, (params, rest).
        batch: `batch(key)` -> the batch of a step, by the step's own key (`sample`).
            Or `batch(key, t)`, by the trial's key of data, the same in each step, and
            the number of the step: `lambda key, t: hw.data.epochs(arrays, key, 32)(t)`.
            Traced. A pair, if the method is of bilevel training.
        batches: in its place, for data that do not fit on the device: `batches(t)` ->
            the batch of step t, in arrays of the host; or an iterable that gives the
            same ones each time it begins (a list, a data set of grain). Read ahead
            once for all trials that run together: they have the same batches, whatever
            their seeds.
        evaluate: `evaluate(params, rest)` -> {metric: scalar}, rest () if not
            `stateful`; as `validate` of `fit`, but traced.
        stateful, trainable, loss_scale: as in `make_step` and `init_state`.
        eval_params: `eval_params(training state)`: parameters for `evaluate` in place
            of those that are trained, such as `averaged_params`.
        **options: more of `make_step` (`private`, `wrt`, `microbatches`,
            `contributions`), or of `make_bilevel_step`.

    Returns:
        `hw.sweeps.Program`. The report of a step is {"values": raw {name: scalar},
        "weights": effective {name: scalar}, "grad_norm", "finite": whether `fit` would
        go on}, and `conflicts`, `gramian`, `contributions`, `skipped`, `loss_scale`
        where they are made. `finite` is False where `fit` raises `NonFiniteError`.

    Raises:
        TypeError: an argument is not what it should be, an option is unknown. When the
            program is traced: a function makes something else of a trial, or wants a
            number of Python; `init` does not return a pair with `stateful`.
        ValueError: when it is traced: a trial's weights are not those of the heads, or
            come to a balancer that finds them; a function asks for a number that no
            trial has; a trial has a number that no function asks for.

    Example:
        >>> def values_fn(params, batch):
        ...     return {"a": (params["w"] - batch) ** 2, "b": params["w"] ** 2}
        >>> program = hw.training.program(
        ...     values_fn,
        ...     lambda trial: optax.sgd(trial["lr"]),
        ...     init=lambda key: {"w": jnp.array(0.0)},
        ...     batch=lambda key: 4.0,
        ...     evaluate=lambda params, rest: {"w": params["w"]},
        ... )
        >>> weights = {"a": 1.0, "b": 0.0}
        >>> state = program.init({"weights": weights, "seed": 0, "lr": 0.25})
        >>> state, report = program.step(state, 0)      # w <- 0 - 0.25 * 2 * (0 - 4)
        >>> print(report["values"]["a"], program.evaluate(state)["w"])
        16.0 2.0
    """
    model = _model.with_rest(values_fn, stateful)
    for argument, function in (("init", init), ("evaluate", evaluate)):
        _checks.function(argument, function)
    _checks.takes("evaluate", evaluate, "params", "rest")
    batch_of, of_host = _either(batch, batches)
    of_optimizer = _of_trial.of_trial("optimizer", optimizer, _checks.optimizer)
    of_balancer = _of_trial.of_trial("balancer", balancer, _check_balancer)
    fixed = not _of_trial.is_function(balancer) and balancer is not None
    both = {"trainable": trainable, "loss_scale": loss_scale}

    def decides(trial: _of_trial.Trial) -> Any:
        """What decides about the weights."""
        if balancer is None and trial["weights"]:
            return balancers.constant(trial["weights"])
        return of_balancer(trial)

    def make(optimizer: Any, balancer: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
        made: Any = _step.make_step
        if isinstance(balancer, _bilevel.BilevelMethod):
            made = _bilevel_step.make_bilevel_step
        return made(
            values_fn, optimizer, balancer, stateful=stateful, **both, **options
        )

    if not any(map(_of_trial.is_function, (optimizer, balancer))):
        make(optimizer, balancer)  # says what is wrong with the options

    def start(trial: Any) -> ProgramState:
        trial = _of_trial.arrays(trial)
        asked = _reading.Reading(trial)
        optimizer, balancer = of_optimizer(asked), decides(asked)
        _reading.refuse_unread(trial, asked.read)
        of_model, of_run = jax.random.split(jax.random.key(trial["seed"]))
        params, rest = _pair(init(of_model)) if stateful else (init(of_model), ())
        first = batch_of(trial, 0)
        bilevel = isinstance(balancer, _bilevel.BilevelMethod)
        args = (_bilevel.pair(first)[0] if bilevel else first, rest, of_run)
        names = jax.eval_shape(lambda: dict(model(params, *args)[0]))
        _check_weights(trial["weights"], names, fixed)
        made: Any = _bilevel.init_bilevel_state if bilevel else _state.init_state
        training = made([*names], params, optimizer, balancer, rest, of_run, **both)
        return _first_state.first_state(ProgramState(trial, training))

    def step(
        state: ProgramState, t: Any, *given: Any
    ) -> tuple[ProgramState, dict[str, Any]]:
        trial, training = state
        made = make(of_optimizer(trial), decides(trial))
        (batch,) = given or (batch_of(trial, t),)
        training, info = made(training, batch)
        return ProgramState(trial, training), _reported.reported(info)

    def metrics(state: ProgramState) -> Mapping[str, Any]:
        _, training = state
        params = training.params if eval_params is None else eval_params(training)
        return _scalars.scalars(evaluate(params, training.rest))

    return Program(start, step, metrics, of_host)


def _either(
    batch: Any, batches: Any
) -> tuple[Callable[[_of_trial.Trial, Any], Any], Callable[[int], Any] | None]:
    """`batch_of(trial, t)`, and `batches(t)` of the host if it is those."""
    if (batch is None) == (batches is None):
        got = "neither" if batch is None else "both"
        raise TypeError(f"batch: expected either batch or batches, got {got}")
    if batches is None:
        return _batches(batch), None
    of_host = _of_step.of_step(batches)
    return (lambda trial, t: of_host(t)), of_host


def _batches(batch: Any) -> Callable[[_of_trial.Trial, Any], Any]:
    """`batches(trial, t)` of a function of the step's key, or of the trial's and t."""
    _checks.function("batch", batch)
    try:
        parameters = [*inspect.signature(batch).parameters.values()]
    except (TypeError, ValueError):  # it does not tell
        parameters = []
    position = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    required = [p for p in parameters if p.kind in position and p.default is p.empty]
    names = ("key", "t") if len(required) == 2 else ("key",)
    _checks.takes("batch", batch, *names)

    def batches(trial: _of_trial.Trial, t: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(trial["seed"]), 1)
        if len(names) == 2:
            return batch(key, t)
        return batch(jax.random.fold_in(key, t))

    return batches


def _check_balancer(argument: str, got: Any) -> None:
    if got is not None and not isinstance(got, _bilevel.BilevelMethod):
        _checks.balancer(argument, got)


def _check_weights(weights: Mapping[str, Any], names: Any, fixed: bool) -> None:
    """Raises ValueError unless they are those of the heads, and have an effect."""
    if not weights:
        return
    if fixed:
        raise ValueError(
            "weights: expected none, as the balancer finds them, got those of "
            f"{_checks.listing(weights)}; a balancer that takes them is a function of "
            "the trial: balancer=lambda trial: ..."
        )
    _checks.same_names("weights", names, weights)


def _pair(got: Any) -> tuple[PyTree, PyTree]:
    if not isinstance(got, tuple) or len(got) != 2:
        raise TypeError(
            "init: expected it to return (params, rest) with stateful=True, got "
            f"{_checks.kind(got)}"
        )
    return got
