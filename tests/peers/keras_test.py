"""Side by side with Keras: the same training, the same values, none of its traps.

Keras' numbers are in keras_two_outputs.json, written by record_keras.py.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

RECORD = json.loads(
    pathlib.Path(__file__).with_name("keras_two_outputs.json").read_text()
)
TRAPS = RECORD["traps"]


def keras_adam(learning_rate):
    """Keras' Adam: its epsilon stands beside the second moment before the correction.

    In optax it stands beside the corrected one, sqrt(1 - b2^t) times larger.
    """
    return optax.inject_hyperparams(optax.adam)(
        learning_rate, eps=lambda t: 1e-7 / jnp.sqrt(1.0 - 0.999 ** (t + 1.0))
    )


OPTIMIZERS = {"sgd": optax.sgd, "adam": keras_adam}

mse = optax.losses.squared_error


def mae(preds, targets):
    return jnp.abs(preds - targets)


def arrays(tree):
    if isinstance(tree, dict):
        return {name: arrays(branch) for name, branch in tree.items()}
    return jnp.array(tree, jnp.float32)


def apply(params, x):
    def dense(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"][None]

    h = jnp.tanh(dense("B", jnp.tanh(dense("A", x))))
    return {"y1": dense("C", h), "y2": dense("D", h)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_ends_with_the_weights_of_keras(name):
    recorded = RECORD["training"][name]
    objective = hw.Objective({"y1": mse, "y2": mae})
    optimizer = OPTIMIZERS[name](recorded["learning_rate"])
    balancer = hw.balancers.constant(RECORD["loss_weights"])

    def values_fn(params, batch):
        return objective.values(apply(params, batch["inputs"]), batch["targets"])

    step = jax.jit(hw.training.make_step(values_fn, optimizer, balancer))
    state = hw.training.init_state(
        objective.names, arrays(RECORD["initial"]), optimizer, balancer
    )
    batch, infos = arrays(RECORD["data"]), []
    for _ in recorded["total"]:
        state, info = step(state, batch)
        infos.append(info)

    # Twenty steps of float32, added up in another order: a few 1e-7 a step. Adam's
    # 1 - 0.999^t keeps 4 digits at first, which is worth 3e-5 of a step of 0.01.
    for head, expected in recorded["values"].items():
        got = [info.values[head] for info in infos]
        np.testing.assert_allclose(got, expected, atol=1e-5)
    totals = [objective.total(info.values, info.weights) for info in infos]
    np.testing.assert_allclose(totals, recorded["total"], atol=1e-5)
    for layer, final in recorded["final"].items():
        for part, expected in final.items():
            np.testing.assert_allclose(state.params[layer][part], expected, atol=1e-5)
            moved = np.abs(np.array(expected) - RECORD["initial"][layer][part])
            assert moved.max() > 1e-3  # the comparison says something


class TestGolden:
    """Cases of Keras' own tests, by name."""

    outputs, targets = (arrays(RECORD["golden"][k]) for k in ("outputs", "targets"))
    both = dict.fromkeys(outputs, mse)

    # Two float32 evaluations of one formula.
    def check(self, got, case, published=None):
        np.testing.assert_allclose(got, RECORD["golden"][case], rtol=1e-6)
        if published is not None:
            np.testing.assert_allclose(got, published, atol=1e-5)  # as Keras has it

    def test_dict_outputs(self):
        total, _ = hw.Objective(self.both)(self.outputs, self.targets)
        self.check(total, "mse", 0.953333)

    def test_list_of_outputs(self):
        names, lists = ["a", "b"], (self.outputs.values(), self.targets.values())
        total, _ = hw.Objective(hw.named(names, [mse, mse]))(
            *(hw.named(names, list(items)) for items in lists)
        )
        self.check(total, "mse", 0.953333)

    def test_sample_weights(self):
        total, _ = hw.Objective(self.both)(
            self.outputs,
            self.targets,
            sample_weights=arrays(RECORD["golden"]["sample_weights"]),
        )
        self.check(total, "mse, weighted examples", 1.266666)

    def test_two_kinds_of_loss(self):
        total, _ = hw.Objective({"a": mse, "b": mae})(self.outputs, self.targets)
        self.check(total, "mse and mae", 1.07666)

    def test_loss_weights(self):
        objective = hw.Objective(self.both, {"a": 0.5, "b": 0.3})
        self.check(objective(self.outputs, self.targets)[0], "loss_weights")

    def test_values_are_reported_unweighted(self):
        ones, threes = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])
        total, values = hw.Objective(self.both, {"a": 1.0, "b": 0.0})(
            {"a": threes, "b": threes}, {"a": ones, "b": ones}
        )
        assert float(total) == 4.0
        assert {name: float(v) for name, v in values.items()} == {"a": 4.0, "b": 4.0}


# The squared error of a is 1, that of b is 4: any mixing up shows.
OUTPUTS = {"a": jnp.ones((2, 1)), "b": 2 * jnp.ones((2, 1))}
TARGETS = {"a": jnp.zeros((2, 1)), "b": jnp.zeros((2, 1))}
BOTH = {"a": mse, "b": mse}


class TestTraps:
    """Each is a right result or a clear error here; what Keras gives stands first."""

    def test_several_losses_on_one_output(self):
        assert TRAPS["two losses in a list on one output"] == 9.0  # of mse and mae: mse
        with pytest.raises(TypeError, match=r"losses\['y'\].*list.*hw.losses.mix"):
            hw.Objective({"y": [mse, mae]})
        both = hw.losses.mix({"mse": (mse, 1.0), "mae": (mae, 1.0)})
        total, _ = hw.Objective({"y": both})(
            {"y": jnp.array([3.0])}, {"y": jnp.zeros(1)}
        )
        assert float(total) == 12.0

    def test_weights_by_other_names(self):
        assert TRAPS["weights by other names"] == 14.0  # taken by position
        with pytest.raises(ValueError, match=r"weights.*\['a', 'b'\].*\['x', 'y'\]"):
            hw.Objective(BOTH, {"x": 10.0, "y": 1.0})

    def test_list_of_losses_and_dict_of_weights(self):
        # Outputs are [b, a] and the weights {"a": 10, "b": 1}: 10 * 1 + 1 * 4.
        assert TRAPS["a list of losses, a dict of weights"] == 41.0
        names = ["b", "a"]
        objective = hw.Objective(hw.named(names, [mse, mse]), {"a": 10.0, "b": 1.0})
        outputs = hw.named(names, [OUTPUTS["b"], OUTPUTS["a"]])
        assert float(objective(outputs, TARGETS)[0]) == 14.0
        with pytest.raises(TypeError, match=r"losses: expected a dict.*hw.named"):
            hw.Objective([mse, mse], {"a": 10.0, "b": 1.0})

    def test_list_of_weights(self):
        with pytest.raises(TypeError, match=r"weights: expected a dict.*hw.named"):
            hw.Objective(BOTH, [10.0, 1.0])

    def test_list_of_outputs(self):
        with pytest.raises(TypeError, match=r"outputs: expected a dict.*hw.named"):
            hw.Objective(BOTH)(list(OUTPUTS.values()), TARGETS)

    def test_one_loss_for_all_outputs(self):
        assert "1 losses and 2 weights" in TRAPS["one loss for all, two weights"]
        with pytest.raises(TypeError, match=r"losses: expected a dict"):
            hw.Objective(mse, {"a": 10.0, "b": 1.0})
        objective = hw.Objective(dict.fromkeys(OUTPUTS, mse), {"a": 10.0, "b": 1.0})
        assert float(objective(OUTPUTS, TARGETS)[0]) == 14.0

    def test_weights_for_some_losses(self):
        assert "2 losses and 1 weights" in TRAPS["weights for some losses"]
        with pytest.raises(ValueError, match=r"weights.*missing \['b'\]"):
            hw.Objective(BOTH, {"a": 10.0})

    def test_fewer_losses_than_outputs(self):
        assert TRAPS["a list with one loss for two outputs"] == 1.0  # b is forgotten
        assert TRAPS["an output forgotten in the losses"] == 1.0
        with pytest.raises(ValueError, match=r"outputs.*unknown \['b'\]"):
            hw.Objective({"a": mse})(OUTPUTS, TARGETS)
        with pytest.raises(ValueError, match=r"2 items.*got 1"):
            hw.named(["a", "b"], [mse])

    def test_more_losses_than_outputs(self):
        assert "KeyError" in TRAPS["three losses for two outputs"]
        with pytest.raises(ValueError, match=r"2 items.*got 3"):
            hw.named(["a", "b"], [mse, mse, mse])

    def test_loss_for_an_unknown_output(self):
        assert "KeyError" in TRAPS["a loss for an unknown output"]
        with pytest.raises(ValueError, match=r"outputs.*missing \['c'\]"):
            hw.Objective(BOTH | {"c": mse})(OUTPUTS, TARGETS)

    def test_targets_of_another_structure(self):
        with pytest.raises(ValueError, match=r"targets.*missing \['b'\]"):
            hw.Objective(BOTH)(OUTPUTS, {"a": TARGETS["a"]})

    def test_output_without_a_loss_needs_no_target(self):
        objective = hw.Objective({"a": mse, "b": None})
        assert float(objective(OUTPUTS, {"a": TARGETS["a"]})[0]) == 1.0

    def test_sample_weights_for_some_outputs(self):
        assert TRAPS["sample weights for some outputs"] == "KeyError: 'b'"
        got = hw.Objective(BOTH).values(
            OUTPUTS, TARGETS, sample_weights={"a": jnp.array([1.0, 0.0])}
        )
        assert {name: float(v) for name, v in got.items()} == {"a": 0.5, "b": 4.0}

    @pytest.mark.parametrize("weight", [1, np.float32(1), np.ones(()), True])
    def test_any_number_is_a_weight(self, weight):
        assert "Expected `loss_weights`" in TRAPS["weight 1 as an int"]
        objective = hw.Objective({"y": mse}, {"y": weight})
        total, _ = objective({"y": jnp.array([3.0])}, {"y": jnp.zeros(1)})
        assert float(total) == 9.0

    def test_weight_0_drops_a_nan(self):
        assert TRAPS["weight 0 and a NaN"] == "NaN"
        objective = hw.Objective(BOTH, {"a": 0.0, "b": 1.0})
        outputs = OUTPUTS | {"a": jnp.full((2, 1), jnp.nan)}
        gradient = jax.value_and_grad(lambda o: objective(o, TARGETS)[0])
        total, grads = gradient(outputs)
        assert float(total) == 4.0
        assert not np.any(grads["a"])

    def test_dice_with_sample_weights(self):
        """Keras takes one ratio over the batch, so it scales all by the mean weight."""
        targets = jnp.array([[1.0, 0, 1, 0], [0, 1, 1, 0]])[..., None]
        preds = jnp.array([[0.9, 0.4, 0.5, 0.2], [0.3, 0.4, 0.6, 0.5]])[..., None]
        first = TRAPS["Dice of the first example"]
        assert TRAPS["Dice, sample weights 1 and 0"] < 0.65 * first
        got = hw.Objective({"y": functools.partial(hw.losses.dice, smooth=0.0)}).values(
            {"y": preds}, {"y": targets}, sample_weights=jnp.array([1.0, 0.0])
        )
        # Half of it: the sum over two examples is divided by two, Keras' own rule.
        np.testing.assert_allclose(got["y"], first / 2, rtol=1e-6)

    def test_tversky_alpha_is_the_price_of_a_false_alarm(self):
        # In Keras alpha is documented as such, and is the price of a miss.
        assert TRAPS["Tversky of a false alarm, alpha=1, beta=0"] < 1e-6
        assert TRAPS["Tversky of a false alarm, alpha=0, beta=1"] == 0.5
        preds, targets = jnp.ones((1, 2, 1)), jnp.array([[[1.0], [0.0]]])
        tversky = functools.partial(hw.losses.tversky, preds, targets, smooth=0.0)
        assert float(tversky(alpha=1.0, beta=0.0)[0, 0]) == 0.5
        assert float(tversky(alpha=0.0, beta=1.0)[0, 0]) == 0.0
