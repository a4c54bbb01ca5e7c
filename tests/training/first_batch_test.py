"""A look at the first batch finds what shapes cannot tell, and changes nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

LABELS = jnp.array([[0, 1], [2, 1]])
rng = np.random.default_rng(0)
X = jnp.array(rng.normal(size=(2, 2, 3)), jnp.float32)
ce = hw.losses.cross_entropy
ignoring = functools.partial(ce, ignore=255)
l2 = optax.losses.squared_error


def train(loss, targets, output=lambda x: x, jitted=False, wrap=lambda f: f, **options):
    objective = hw.Objective({"y": loss, "other": l2})

    @wrap
    def values_fn(params, batch):
        x, targets = batch
        outputs = {"y": output(params["w"] * x), "other": x * params["w"]}
        return objective.values(outputs, {"y": targets, "other": x})

    optimizer = optax.sgd(0.1)
    step = hw.training.make_step(values_fn, optimizer)
    step = jax.jit(step) if jitted else step
    balancer = hw.balancers.equal()
    state = hw.training.init_state(
        objective.names, {"w": jnp.ones(())}, optimizer, balancer
    )
    return hw.training.fit(
        step, state, lambda t: (X, targets), 1, progress=False, **options
    )


@pytest.mark.parametrize(
    ("loss", "targets", "output", "text"),
    [
        (ce, LABELS - 1, None, "labels in 0..2, got -1 to 1"),
        (ignoring, LABELS.at[0, 0].set(254), None, "labels in 0..2, got 1 to 254"),
        (ce, LABELS, jax.nn.softmax, "expected logits, got probabilities"),
        (hw.losses.dice, LABELS, None, r"probabilities in \[0, 1\], got -"),
        (hw.losses.mix({"ce": (ce, 1.0)}), LABELS - 1, None, " / 'ce': .*got -1"),
        (
            hw.losses.deep_supervision(ce),
            LABELS + 1,
            lambda x: [x, x[:, ::2]],
            r" / 'preds\[0\]': .*got 1 to 3",
        ),
        (ce, jnp.ones((2, 2, 3)), None, r"of sum 1 .*sums 3.0 to 3.0; are the chan"),
    ],
)
def test_what_makes_no_sense_is_an_error_before_the_first_step(
    loss, targets, output, text
):
    output = output or (lambda x: x)
    with pytest.raises(ValueError, match=rf"first batch, loss of 'y'.*{text}"):
        train(loss, targets, output, jitted=loss is ce)
    state, _ = train(loss, targets, output, check=False)
    assert state.step == 1


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_good_values_pass_and_so_does_what_is_out_of_sight(wrap):
    state, history = train(ignoring, LABELS.at[0, 0].set(255), wrap=wrap)
    assert state.step == 1
    plain, expected = train(ignoring, LABELS.at[0, 0].set(255), wrap=wrap, check=False)
    assert history == expected
    np.testing.assert_array_equal(state.params["w"], plain.params["w"])
