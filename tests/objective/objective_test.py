"""Named heads to raw values and their weighted total."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

l2 = optax.losses.squared_error
OUTPUTS = {"y1": jnp.array([[1.0, 3.0]]), "y2": jnp.array([[2.0, 0.0]])}
TARGETS = {"y1": jnp.zeros((1, 2)), "y2": jnp.zeros((1, 2))}  # values 5 and 2


def two(weights=None, **losses):
    return hw.Objective({"y1": l2, "y2": l2} | losses, weights)


class TestTotal:
    def test_is_the_weighted_sum_of_raw_values(self):
        total, values = two({"y1": 0.5, "y2": 0.25})(OUTPUTS, TARGETS)
        assert {k: float(v) for k, v in values.items()} == {"y1": 5.0, "y2": 2.0}
        assert float(total) == 3.0

    def test_weights_are_1_if_not_given(self):
        assert float(two()(OUTPUTS, TARGETS)[0]) == 7.0

    def test_order_of_the_dicts_is_irrelevant(self):
        objective = hw.Objective({"b": l2, "a": l2}, {"a": 10.0, "b": 1.0})
        assert objective.names == ("a", "b")
        outputs = {"b": jnp.array([2.0]), "a": jnp.array([1.0])}
        targets = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
        total, values = objective(outputs, targets)
        assert list(values) == ["a", "b"]
        assert float(total) == 14.0

    def test_weights_given_later_override(self):
        objective = two({"y1": 0.5, "y2": 0.25})
        later = {"y2": 2.0, "y1": 1.0}
        assert float(objective(OUTPUTS, TARGETS, later)[0]) == 9.0
        assert float(objective.total({"y1": 1.0, "y2": 10.0}, later)) == 21.0
        assert float(objective.total({"y1": 1.0, "y2": 10.0})) == 3.0

    def test_schedules_take_the_step(self):
        ramp = optax.linear_schedule(0.0, 1.0, transition_steps=4)
        objective = two({"y1": 1.0, "y2": ramp})
        totals = [objective(OUTPUTS, TARGETS, step=step)[0] for step in (0, 2, 9)]
        assert np.array(totals).tolist() == [5.0, 6.0, 7.0]
        traced = jax.jit(lambda step: objective(OUTPUTS, TARGETS, step=step)[0])
        assert float(traced(2)) == 6.0
        with pytest.raises(ValueError, match=r"step.*'y2' is a schedule.*None"):
            objective(OUTPUTS, TARGETS)

    def test_traced_weights_do_not_recompile(self):
        objective, traces = two(), []

        @jax.jit
        def total(weights):
            traces.append(None)
            return objective(OUTPUTS, TARGETS, weights)[0]

        totals = [total({"y1": a, "y2": b}) for a, b in [(1.0, 1.0), (0.5, 2.0)]]
        assert np.array(totals).tolist() == [7.0, 6.5]
        assert len(traces) == 1

    def test_vmap_over_weights_equals_loop(self):
        objective = two()
        rows = {"y1": np.float32([1.0, 0.0, 3.0]), "y2": np.float32([0.5, 2.0, 0.0])}

        def total(params, weights):
            outputs = {name: params * x for name, x in OUTPUTS.items()}
            return objective(outputs, TARGETS, weights)[0]

        gradient = jax.value_and_grad(total)
        got = jax.jit(jax.vmap(gradient, (None, 0)))(2.0, rows)
        one = jax.jit(gradient)
        loop = [one(2.0, {k: v[i] for k, v in rows.items()}) for i in range(3)]
        chex.assert_trees_all_close(got, jax.tree.map(lambda *x: np.stack(x), *loop))

    def test_gradient_is_the_weighted_sum_of_head_gradients(self):
        objective = two({"y1": 0.3, "y2": 1.7}, y2=optax.losses.huber_loss)

        def values(params):
            outputs = {name: jnp.tanh(params * x) for name, x in OUTPUTS.items()}
            return objective.values(outputs, TARGETS)

        @jax.jit
        def gradients(params):
            grads = {
                name: jax.grad(lambda p, name=name: values(p)[name])(params)
                for name in objective.names
            }
            return grads, jax.grad(lambda p: objective.total(values(p)))(params)

        grads, got = gradients(jnp.array([[0.4, -0.7]]))
        expected = 0.3 * grads["y1"] + 1.7 * grads["y2"]
        np.testing.assert_allclose(got, expected, rtol=1e-6)  # order of additions

    def test_gradient_for_learned_weights(self):
        gradient = jax.jit(jax.grad(lambda w: two()(OUTPUTS, TARGETS, w)[0]))
        got = gradient({"y1": 1.0, "y2": 1.0})
        assert {k: float(v) for k, v in got.items()} == {"y1": 5.0, "y2": 2.0}

    def test_second_derivative(self):
        objective = two({"y1": 0.5, "y2": 0.25})

        def total(scale):
            return objective({n: scale * x for n, x in OUTPUTS.items()}, TARGETS)[0]

        # 3 scale²
        assert float(jax.jit(jax.grad(jax.grad(total)))(1.5)) == 6.0
        assert float(jax.jit(jax.hessian(total))(1.5)) == 6.0


class TestZeroWeight:
    """A weight of exactly 0 drops the head, whatever its value is."""

    def values(self, objective, params):
        outputs = {"y1": params * jnp.ones(2), "y2": jnp.log(-params * jnp.ones(2))}
        return objective.values(outputs, {"y1": jnp.zeros(2), "y2": jnp.zeros(2)})

    def check(self, value_and_grad):
        (total, values), grad = value_and_grad
        assert np.isnan(values["y2"])  # what is logged stays true
        assert float(total) == 9.0
        assert float(grad) == 6.0

    def test_static(self):
        objective = two({"y1": 1.0, "y2": 0.0})

        def total(params):
            values = self.values(objective, params)
            return objective.total(values), values

        self.check(jax.value_and_grad(total, has_aux=True)(3.0))

    def test_static_and_jit(self):
        objective = two({"y1": 1.0, "y2": 0.0})

        def total(params):
            values = self.values(objective, params)
            return objective.total(values), values

        self.check(jax.jit(jax.value_and_grad(total, has_aux=True))(3.0))

    def test_traced_through_values_then_total(self):
        objective = two()

        def total(params, weights):
            values = self.values(objective, params)
            return objective.total(values, weights), values

        gradient = jax.jit(jax.value_and_grad(total, has_aux=True))
        self.check(gradient(3.0, {"y1": 1.0, "y2": 0.0}))
        poisoned = gradient(3.0, {"y1": 1.0, "y2": 0.5})
        assert np.isnan(poisoned[0][0])
        assert np.isnan(poisoned[1])

    def test_one_lane_of_vmap(self):
        objective = two()

        def total(params, weight):
            values = self.values(objective, params)
            return objective.total(values, {"y1": 1.0, "y2": weight})

        gradient = jax.jit(jax.vmap(jax.grad(total), (None, 0)))
        grads = np.asarray(gradient(3.0, np.float32([0.0, 1.0])))
        assert float(grads[0]) == 6.0
        assert np.isnan(grads[1])

    def test_schedule_that_begins_at_0(self):
        objective = two({"y1": 1.0, "y2": optax.linear_schedule(0.0, 1.0, 10)})

        def total(params, step):
            return objective.total(self.values(objective, params), step=step)

        gradient = jax.jit(jax.grad(total))
        assert float(gradient(3.0, 0)) == 6.0
        assert np.isnan(gradient(3.0, 5))


class TestOutputs:
    def test_none_is_an_output_without_a_loss(self):
        objective = two({"y1": 1.0, "y2": 1.0}, features=None)
        assert objective.names == ("y1", "y2")
        outputs = OUTPUTS | {"features": jnp.full(3, jnp.nan)}
        assert float(objective(outputs, TARGETS)[0]) == 7.0
        assert float(objective(outputs, TARGETS | {"features": None})[0]) == 7.0

    def test_pytrees(self):
        def gaussian(outputs, targets):
            return (
                outputs["log_scale"]
                + 0.5
                * ((targets - outputs["mean"]) * jnp.exp(-outputs["log_scale"])) ** 2
            )

        objective = hw.Objective({"y": gaussian})
        outputs = {"y": {"mean": jnp.array([1.0, 3.0]), "log_scale": jnp.zeros(2)}}
        gradient = jax.jit(jax.grad(lambda o: objective(o, {"y": jnp.zeros(2)})[0]))
        got = gradient(outputs)
        np.testing.assert_allclose(got["y"]["mean"], [0.5, 1.5])
        np.testing.assert_allclose(got["y"]["log_scale"], [0.0, -4.0])

    def test_integer_labels(self):
        loss = optax.losses.softmax_cross_entropy_with_integer_labels
        objective = hw.Objective({"y": loss})
        logits = jnp.array([[0.0, 0.0], [0.0, 0.0]])
        gradient = jax.value_and_grad(
            lambda o: objective({"y": o}, {"y": jnp.array([0, 1])})[0]
        )
        value, grads = jax.jit(gradient)(logits)
        np.testing.assert_allclose(value, np.log(2), rtol=1e-6)  # a float32 rounding
        np.testing.assert_allclose(grads, [[-0.25, 0.25], [0.25, -0.25]])

    def test_bfloat16_values_are_float32(self):
        outputs = {name: x.astype(jnp.bfloat16) for name, x in OUTPUTS.items()}
        total, values = two()(outputs, TARGETS)
        assert {v.dtype for v in values.values()} == {jnp.dtype("float32")}
        assert total.dtype == jnp.float32
        assert float(total) == 7.0  # all numbers are exact in bfloat16

    def test_bfloat16_means_are_taken_in_float32(self):
        x = jnp.ones((1, 1001), jnp.bfloat16).at[0, 0].set(2.0)
        value = hw.Objective({"y": l2}).values({"y": x}, {"y": 0 * x})["y"]
        np.testing.assert_allclose(value, 1004 / 1001, rtol=1e-6)  # bfloat16: 4e-3

    @pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
    def test_totals_are_float32_whatever_comes_in(self, dtype):
        weights = {"y1": jnp.asarray(3.0, dtype), "y2": jnp.asarray(2.0, dtype)}
        values = {"y1": jnp.asarray(4e4, dtype), "y2": jnp.asarray(1.0, dtype)}
        total = two().total(values, weights)  # 1.2e5: float16 ends at 65504
        expected = 3 * float(values["y1"]) + 2
        assert total.dtype == jnp.float32
        np.testing.assert_allclose(total, expected, rtol=1e-6)

    def test_float64_stays(self):
        with jax.enable_x64(True):
            x = jnp.array([0.1])
            value = hw.Objective({"y": l2}).values({"y": x}, {"y": 0 * x})["y"]
            assert value.dtype == jnp.float64

    def test_numpy_arrays(self):
        outputs = {name: np.asarray(x) for name, x in OUTPUTS.items()}
        assert float(two()(outputs, TARGETS)[0]) == 7.0


class TestMixture:
    """Several losses on one output."""

    def test_is_one_head(self):
        both = hw.losses.mix({"l2": (l2, 1.0), "l1": (lambda p, t: abs(p - t), 0.5)})
        total, values = two({"y1": 2.0, "y2": 1.0}, y1=both)(OUTPUTS, TARGETS)
        assert {k: float(v) for k, v in values.items()} == {"y1": 6.0, "y2": 2.0}
        assert float(total) == 14.0

    def test_weights_inside_are_differentiated(self):
        def total(inside):
            both = hw.losses.mix({"a": (l2, inside), "b": (l2, 1.0)})
            return two({"y1": 2.0, "y2": 1.0}, y1=both)(OUTPUTS, TARGETS)[0]

        assert float(jax.grad(total)(0.5)) == 10.0  # 2 * 5
        assert float(jax.jit(jax.grad(total))(0.5)) == 10.0
        grads = jax.jit(jax.vmap(jax.grad(total)))(np.float32([0.5, 1.0]))
        assert grads.tolist() == [10.0, 10.0]

    @pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
    def test_weight_0_inside_drops_a_nan_part(self, transform):
        def total(params, inside):

            def bad(p, t):
                return jnp.sqrt(p - p - 1.0) * p

            both = hw.losses.mix({"bad": (bad, inside), "good": (l2, 1.0)})
            return hw.Objective({"y": both})(
                {"y": params * jnp.ones(2)}, {"y": jnp.zeros(2)}
            )[0]

        value, grad = transform(jax.value_and_grad(total))(3.0, 0.0)
        assert (float(value), float(grad)) == (9.0, 6.0)
        assert np.isnan(transform(total)(3.0, 1.0))

    def test_errors(self):
        with pytest.raises(ValueError, match=r"losses.*at least one"):
            hw.losses.mix({})
        with pytest.raises(TypeError, match=r"losses\['a'\].*\(loss, weight\)"):
            hw.losses.mix({"a": l2})
        with pytest.raises(TypeError, match=r"losses: expected a dict.*list"):
            hw.losses.mix([(l2, 1.0)])
        scalar = hw.losses.mix({"a": (lambda p, t: jnp.mean(p - t), 1.0)})
        with pytest.raises(ValueError, match=r"'a'.*batch.*scalar"):
            scalar(jnp.ones(2), jnp.ones(2))


class TestErrors:
    def test_unknown_and_missing_names_are_listed(self):
        with pytest.raises(ValueError, match=r"weights.*\['y1', 'y2'\].*\['x', 'y1'\]"):
            two({"y1": 1.0, "x": 1.0})
        with pytest.raises(ValueError, match=r"missing \['y2'\]; unknown \['x'\]"):
            two({"y1": 1.0, "x": 1.0})
        with pytest.raises(ValueError, match=r"outputs.*missing \['y2'\]"):
            two().values({"y1": 1.0}, TARGETS)
        with pytest.raises(ValueError, match=r"outputs.*unknown \['y3'\]"):
            two().values(OUTPUTS | {"y3": 1.0}, TARGETS)
        with pytest.raises(ValueError, match=r"targets.*missing \['y1'\]"):
            two().values(OUTPUTS, {"y2": TARGETS["y2"]})
        with pytest.raises(ValueError, match=r"targets.*unknown \['y3'\]"):
            two().values(OUTPUTS, TARGETS | {"y3": 1.0})
        with pytest.raises(ValueError, match=r"values.*missing \['y2'\]"):
            two().total({"y1": 1.0})
        with pytest.raises(ValueError, match=r"weights.*missing \['y1'\]"):
            two().total({"y1": 1.0, "y2": 1.0}, {"y2": 1.0})

    def test_a_weight_for_an_output_without_a_loss(self):
        with pytest.raises(ValueError, match=r"weights.*unknown \['features'\]"):
            two({"y1": 1.0, "y2": 1.0, "features": 0.0}, features=None)

    def test_names_are_strings(self):
        with pytest.raises(TypeError, match=r"losses.*got 1 of type int"):
            hw.Objective({"a": l2, 1: l2})
        with pytest.raises(TypeError, match="non-empty"):
            hw.Objective({"": l2})

    def test_no_head(self):
        with pytest.raises(ValueError, match="at least one head"):
            hw.Objective({})
        with pytest.raises(ValueError, match="at least one head with a loss"):
            hw.Objective({"a": None})

    @pytest.mark.parametrize(
        ("weight", "error", "text"),
        [
            (None, TypeError, "NoneType"),
            ("0.5", TypeError, "str"),
            (1j, TypeError, "complex"),
            (jnp.ones(2), ValueError, r"\(2,\)"),
            ([0.5], ValueError, r"\(1,\)"),
        ],
    )
    def test_a_weight_is_a_scalar(self, weight, error, text):
        with pytest.raises(error, match=rf"weights\['y1'\].*scalar.*{text}"):
            two({"y1": weight, "y2": 1.0})

    def test_a_value_is_a_scalar(self):
        with pytest.raises(ValueError, match=r"values\['y1'\].*scalar.*\(2,\)"):
            two().total({"y1": jnp.ones(2), "y2": 1.0})


def test_weights_and_repr():
    objective = two({"y1": 0.5, "y2": 0.25})
    assert repr(objective) == "Objective(y1: 0.5, y2: 0.25)"
    objective.weights["y1"] = 7.0  # a copy
    assert float(objective.weights["y1"]) == 0.5


def test_repr_has_the_digits_of_a_float32():
    ramp = optax.linear_schedule(0.0, 0.3, 1000)
    text = repr(
        hw.Objective({"a": l2, "b": l2, "c": l2}, {"a": 0.3, "b": 1e-5, "c": ramp})
    )
    assert text.startswith("Objective(a: 0.3, b: 1e-05, c: ")


def test_errors_hint_at_what_helps():
    ramp = optax.linear_schedule(0.0, 0.3, 1000)
    with pytest.raises(TypeError, match=r"weights\['a'\].*hw.balancers.scheduled"):
        hw.balancers.constant({"a": ramp}).init(["a"])
    with pytest.raises(TypeError, match=r"losses: expected a dict") as caught:
        hw.losses.mix([(l2, 1.0)])
    assert "hw.named" not in str(caught.value)
