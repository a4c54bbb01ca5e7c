"""fit: early stops, the best parameters, what is set anew, what is evaluated.

One straight line of training: a head `a` whose value falls, by a formula, so that every
record is known by hand. p' = p - rate * 2 (p - goal), from p = 1.
"""

import itertools
import json
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise.training import _course

pytestmark = pytest.mark.optimized

T = hw.training
RATE = 0.25  # halves p - goal
OPTIMIZER = optax.inject_hyperparams(optax.sgd)(learning_rate=RATE)


def values_fn(params, rest, batch, key):
    del key
    return {"a": (params["p"] - batch) ** 2}, {"seen": rest["seen"] + 1}


STEP = jax.jit(T.make_step(values_fn, OPTIMIZER, stateful=True))


def start(optimizer=OPTIMIZER):
    rest = {"seen": jnp.int32(0)}
    return T.init_state(["a"], {"p": jnp.array(1.0)}, optimizer, rest=rest)


def at(number):
    """p after so many steps to the goal 0."""
    return 0.5**number


def validate(params, rest):
    """Best at p = 1/8, after three steps."""
    return {"miss": jnp.abs(params["p"] - 0.125), "seen": rest["seen"]}


def fit(batches=lambda t: 0.0, steps=None, step=STEP, state=None, **options):
    state = start() if state is None else state
    return T.fit(step, state, batches, steps, progress=False, **options)


class TestStop:
    def test_patience_waits_for_so_many_records(self, caplog):
        """Misses 3/8, 1/8, 0, 1/16, 3/32: two are no better than that of step 3."""
        state, history = fit(
            steps=100,
            log_every=1,
            validate=validate,
            validate_every=1,
            stop=T.patience("validation/miss", 2, mode="min"),
        )
        assert int(state.step) == 5
        why = "validation/miss: no better than 0 of step 3 in 2 records"
        assert [r.get("stopped") for r in history] == [None] * 4 + [why]
        assert caplog.messages == [f"stopped after step 5: {why}"]

    def test_a_resumed_run_stays_stopped_and_goes_on_if_told(self, tmp_path, caplog):
        def go(patience):
            return fit(
                steps=9,
                log_every=2,
                checkpoint_every=1,
                validate=validate,
                validate_every=1,
                workdir=tmp_path,
                stop=T.patience("validation/miss", patience, mode="min"),
            )

        state, history = go(2)
        assert int(state.step) == 5
        assert "values" not in history[-1]  # the window is of steps 5 and 6
        again, same = go(2)
        assert same == history == T.read_metrics(tmp_path)
        np.testing.assert_array_equal(again.params["p"], state.params["p"])
        on, more = go(4)
        assert int(on.step) == 7
        assert more[:5] == history
        assert "goes on after step 5" in caplog.messages[-2]
        plain, _ = fit(steps=7)
        np.testing.assert_array_equal(on.params["p"], plain.params["p"])

    def test_the_end_is_validated(self):
        """Though no validation is due there."""
        _, history = fit(
            steps=8,
            log_every=1,
            validate=validate,
            stop=T.reached("values/a", 0.3, mode="min"),
        )
        assert [r["step"] for r in history] == [1, 2]
        assert history[-1]["validation"]["seen"] == 2.0
        assert history[-1]["stopped"] == "values/a: 0.25 of step 2 reaches 0.3"

    def test_time_is_counted_over_resumes(self, tmp_path, monkeypatch):
        clock = itertools.count()  # a second each time that it is looked at
        watch = types.SimpleNamespace(monotonic=lambda: float(next(clock)))
        monkeypatch.setattr(_course, "time", watch)
        options = {"log_every": 1, "checkpoint_every": 1, "workdir": tmp_path}
        fit(steps=2, **options, stop=T.out_of_time(1e6))
        _, history = fit(steps=4, **options, stop=T.out_of_time(1e6))
        seconds = [record["seconds"] for record in history]
        assert seconds == [1.0, 2.0, 3.0, 4.0]
        ended, _ = fit(steps=100, **options, stop=T.out_of_time(6.0))
        assert int(ended.step) == 6
        assert "seconds" not in fit(steps=2)[1][-1]

    def test_without_better_values_it_ends(self):
        """None and NaN are never better, and any number is better than they."""
        history = [
            {"step": t, "validation": {"x": x}}
            for t, x in enumerate([None, 2.0, None, None])
        ]
        stop = T.patience("validation/x", 2, mode="max")
        assert [stop(history[: n + 1]) for n in range(3)] == [None] * 3
        assert stop(history) == "validation/x: no better than 2 of step 1 in 2 records"
        nothing = [history[0], history[0]]
        assert stop(nothing) == "validation/x: no better than not finite in 2 records"

    def test_names_may_hold_slashes_and_records_may_lack_them(self):
        """A metric is looked for where its path leads, and nowhere else."""
        history = [
            {"step": 1, "grad_norm": 9.0, "values": {"a/b": 3.0}},
            {"step": 2, "grad_norm": 9.0, "validation": {"grad_norm": 1.0}},
        ]
        for metric, value in (("values/a/b", 3.0), ("validation/grad_norm", 1.0)):
            assert T.reached(metric, value, mode="min")(history)
            assert not T.reached(metric, value / 2, mode="min")(history)

    @pytest.mark.parametrize(
        "option",
        [
            {"stop": T.patience("validation/mis", 2, mode="min")},
            {"stop": T.reached("validation/mis", 2.0, mode="min")},
            {"best": ("validation/mis", "min")},
            {"adjust": lambda s, h: SCALE(h)},
        ],
        ids=["patience", "reached", "best", "plateau"],
    )
    def test_an_unknown_metric_is_told_with_those_that_exist(self, option):
        words = (
            r"metric: unknown names \['validation/mis'\], did you mean "
            r"\['validation/miss'\]; expected some of \['grad_norm', .*"
            r"'validation/miss', 'validation/seen', 'values/a', 'weights/a'\]"
        )
        with pytest.raises(ValueError, match=words):
            fit(steps=4, log_every=2, validate=validate, validate_every=2, **option)

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (
                lambda: T.patience("a", 2, mode="less"),
                r"mode: expected one of \['min', 'max'\], got 'less'",
            ),
            (lambda: T.patience("a", 0, mode="min"), "patience: expected a positive"),
            (lambda: T.patience(3, 2, mode="min"), "metric: expected the path of a"),
            (lambda: T.reached("a", math.nan, mode="min"), "target: expected a finite"),
            (lambda: T.out_of_time(0), "seconds: expected a positive number, got 0"),
            (lambda: T.any_of(3), r"stops\[0\]: expected a callable, got int"),
            (
                lambda: T.plateau("a", factor=2.0, patience=1, mode="min"),
                r"factor: expected a number in \(0, 1\), got 2.0",
            ),
            (lambda: fit(steps=2, stop=3), "stop: expected a callable, got int"),
            (
                lambda: fit(steps=2, stop=lambda history: True),
                "stop: expected why the run ends, a str, or None .*, got True",
            ),
            (
                lambda: fit(steps=2, stop=T.patience("validation/x", 2, mode="min")),
                "validate: expected one, since stop looks at 'validation/x', got None",
            ),
            (
                lambda: fit(
                    steps=2, validate=validate, best=("validation/miss", "min")
                ),
                "validate_every: expected one, since best looks at .*, got None",
            ),
            (
                lambda: fit(steps=2, stop=T.reached("grad", 0.0, mode="min")),
                r"unknown names \['grad'\].* expected some of \['grad_norm'",
            ),
            (lambda: fit(steps=2, best="values/a"), r"best: expected a metric and "),
            (lambda: fit(steps=2, best=("a", "up")), "best: mode: expected one of"),
            (
                lambda: fit(steps=2, adjust=lambda state, history: None),
                "adjust: expected the state with other numbers, got None",
            ),
            (
                lambda: fit(
                    steps=2, adjust=lambda s, h: s._replace(params={"p": jnp.ones(2)})
                ),
                r"adjust: expected params/p of shape \(\), got \(2,\)",
            ),
        ],
    )
    def test_bad_input(self, make, words):
        with pytest.raises((TypeError, ValueError), match=words):
            make()


BEST = {
    "validate": validate,
    "validate_every": 1,
    "log_every": 1,
    "best": ("validation/miss", "min"),
}


class TestBest:
    def test_is_returned(self):
        state, history, best = fit(steps=6, **BEST)
        assert (best.step, best.value) == (3, 0.0)
        assert (float(best.params["p"]), int(best.rest["seen"])) == (at(3), 3)
        assert float(state.params["p"]) == at(6)
        assert len(history) == 6
        assert fit(steps=6, **BEST | {"best": ("values/a", "max")})[2].step == 1

    def test_is_none_where_nothing_is_finite(self):
        options = BEST | {"validate": lambda params, rest: {"miss": math.nan}}
        assert fit(steps=2, **options)[2] is None

    @pytest.mark.parametrize("between", [1, 2, 3, 4, 5])
    def test_survives_a_resume(self, between, tmp_path):
        """Interrupted before, at and after the best."""
        fit(steps=between, workdir=tmp_path, checkpoint_every=2, **BEST)
        _, _, best = fit(steps=6, workdir=tmp_path, **BEST)
        assert (best.step, best.value) == (3, 0.0)
        assert (float(best.params["p"]), int(best.rest["seen"])) == (at(3), 3)
        again = fit(steps=6, workdir=tmp_path, **BEST)[2]
        assert float(again.params["p"]) == at(3)
        with T.Checkpoints(tmp_path / "best") as kept:
            like = {"params": best.params, "rest": best.rest}
            assert float(kept.restore(like)["params"]["p"]) == at(3)
            assert kept.note == {"step": 3, "value": 0.0, "metric": "validation/miss"}

    def test_what_was_written_after_the_checkpoint_is_forgotten(self, tmp_path):
        """Killed between the best of step 3 and the checkpoint there."""
        fit(steps=2, workdir=tmp_path, **BEST)
        late = {"params": {"p": jnp.array(7.0)}, "rest": {"seen": jnp.int32(9)}}
        with T.Checkpoints(tmp_path / "best") as kept:
            kept.save(3, late, {"step": 3, "value": -1.0, "metric": "validation/miss"})
        _, _, best = fit(steps=2, workdir=tmp_path, **BEST)
        assert (best.step, float(best.params["p"])) == (2, at(2))

    def test_one_that_was_not_kept_is_told(self, tmp_path, caplog):
        options = BEST | {"workdir": tmp_path}
        fit(steps=4, **options | {"best": None})
        _, _, best = fit(steps=6, **options)
        assert best.step == 5
        assert caplog.messages == [
            "best: validation/miss was best at step 3 (0), whose parameters are not "
            "kept; the best from step 4 on will be"
        ]


SCALE = T.plateau("validation/mis", factor=0.5, patience=1, mode="min")


class TestAdjust:
    @staticmethod
    def slower(state, history):
        """The rate is halved with every record."""
        rate = RATE * 0.5 ** len(history)
        kept = optax.tree.set(state.optimizer, learning_rate=rate)
        return state._replace(optimizer=kept)

    def test_acts_from_the_next_step_on_and_compiles_nothing(self, tmp_path):
        before = STEP._cache_size()
        options = {"adjust": self.slower, "log_every": 2, "checkpoint_every": 1}
        state, history = fit(steps=6, **options, workdir=tmp_path / "whole")
        assert STEP._cache_size() <= max(before, 1)
        p = 1.0
        for rate in (0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625):
            p -= rate * 2 * p
        np.testing.assert_allclose(state.params["p"], p, rtol=1e-6)
        rates = [record["hyperparams"]["learning_rate"] for record in history]
        assert rates == [0.25, 0.125, 0.0625]
        fit(steps=4, **options, workdir=tmp_path / "parts")
        resumed, parts = fit(steps=6, **options, workdir=tmp_path / "parts")
        assert parts == history
        np.testing.assert_array_equal(resumed.params["p"], state.params["p"])

    def test_the_plateau_of_keras(self):
        """`ReduceLROnPlateau.on_epoch_end`, line by line, in float64."""
        rng = np.random.default_rng(0)
        for cooldown, patience, mode in itertools.product(
            (0, 2), (1, 3), ("min", "max")
        ):
            values = np.round(rng.normal(size=40), 1).tolist()
            rate, wait, cooling, want = 1.0, 0, 0, []
            best = math.inf if mode == "min" else -math.inf
            for current in values:
                if cooling > 0:
                    cooling -= 1
                    wait = 0
                better = current < best - 0.1 if mode == "min" else current > best + 0.1
                if better:
                    best, wait = current, 0
                elif cooling <= 0:
                    wait += 1
                    if wait >= patience and rate > 0.05:
                        rate = max(rate * 0.5, 0.05)
                        cooling, wait = cooldown, 0
                want.append(rate)
            scale = T.plateau(
                "values/a",
                factor=0.5,
                patience=patience,
                mode=mode,
                min_delta=0.1,
                cooldown=cooldown,
                least=0.05,
            )
            history = [{"step": t, "values": {"a": x}} for t, x in enumerate(values)]
            assert [scale(history[: n + 1]) for n in range(40)] == want
            assert len(set(want)) > 2


class TestEvalParams:
    def test_validation_and_best_see_the_average(self):
        """Of p = 1/2, 1/4, 1/8, ...: the debiased average with decay 1/2 by hand."""
        optimizer = T.ema(optax.sgd(RATE), 0.5)
        step = T.make_step(values_fn, optimizer, stateful=True)
        _, history, best = fit(
            steps=4,
            step=step,
            state=start(optimizer),
            log_every=1,
            validate=lambda params, rest: {"p": params["p"]},
            validate_every=1,
            best=("validation/p", "min"),
            eval_params=T.averaged_params,
        )
        weights = 0.5 ** np.arange(4)[::-1]
        means = [
            np.sum(weights[-n:] * 0.5 ** np.arange(1, n + 1)) / np.sum(weights[-n:])
            for n in range(1, 5)
        ]
        seen = [record["validation"]["p"] for record in history]
        np.testing.assert_allclose(seen, means, rtol=1e-6)
        np.testing.assert_allclose(best.params["p"], means[-1], rtol=1e-6)
        json.dumps(history)
