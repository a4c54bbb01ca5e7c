# %% [markdown]
# # The two questions, on your model
#
# `model.compile(loss=[loss1, loss2], loss_weights=[l1, l2])` leaves two questions open: **what exactly is minimised**, and **does loss2 update only the layers that
# lead to y2, or all of them?** Here both are answered for a model, not for models in general: put yours in the first cell, and run the rest.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import headwise as hw


class Network(nnx.Module):
    """A and B are shared; C leads to y1, D to y2."""

    def __init__(self, rngs):
        self.A = nnx.Linear(3, 16, rngs=rngs)
        self.B = nnx.Linear(16, 16, rngs=rngs)
        self.C = nnx.Linear(16, 1, rngs=rngs)
        self.D = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        h = nnx.tanh(self.B(nnx.tanh(self.A(x))))
        return {"y1": self.C(h), "y2": self.D(h)}


x = jax.random.normal(jax.random.key(0), (64, 3))
targets = {"y1": jnp.sin(2 * x[:, :1]), "y2": x[:, 1:2] * x[:, 2:]}
loss_weights = {"y1": 0.5, "y2": 0.3}
objective = hw.Objective(
    {"y1": optax.losses.squared_error, "y2": hw.losses.absolute_error}, loss_weights
)
apply, params, _ = hw.nn.functional(Network(nnx.Rngs(0)))


def values_fn(params, x, targets):
    outputs, _ = apply(params, {}, x)
    return objective.values(outputs, targets)


# %% [markdown]
# ## What exactly is minimised?
#
# One number: each loss is averaged over its batch, multiplied by its weight, and all are added. `values` are raw, by name; `total` is what the gradient is taken of.

# %%
outputs, _ = apply(params, {}, x)
total, values = objective(outputs, targets)
print(f"total {total:.4f} = 0.5 * {values['y1']:.4f} + 0.3 * {values['y2']:.4f}")

# %% [markdown]
# The same by hand, in NumPy and float64, from the outputs alone:

# %%
error = {n: np.asarray(outputs[n] - targets[n], np.float64) for n in outputs}
by_hand = 0.5 * np.mean(error["y1"] ** 2) + 0.3 * np.mean(np.abs(error["y2"]))
print(f"{by_hand:.4f}, equal: {np.isclose(by_hand, total, rtol=1e-5)}")

# %% [markdown]
# ## Does loss2 update only the layers that lead to y2?
#
# It updates those *and* all that y2 shares with y1. `hw.routing` reads it off the program of the backward pass, so it holds for all data and all weights.

# %%
routing = hw.routing(values_fn, params, x, targets)
routing

# %%
axes = routing.plot()

# %% [markdown]
# C and D follow one loss each, A and B the weighted sum of both. `hw.head_grads` gives one gradient a head; their weighted sum is the gradient of the total,
# in every layer:

# %%
_, grads = hw.head_grads(values_fn)(params, x, targets)
of_total = jax.grad(lambda p: objective.total(values_fn(p, x, targets)))(params)
for layer in of_total:
    parts = {
        "0.5 * loss1": lambda a, b: 0.5 * a,
        "0.3 * loss2": lambda a, b: 0.3 * b,
        "0.5 * loss1 + 0.3 * loss2": lambda a, b: 0.5 * a + 0.3 * b,
    }
    whole, a, b = (g[layer]["kernel"] for g in (of_total, grads["y1"], grads["y2"]))
    follows = [n for n, part in parts.items() if np.allclose(whole, part(a, b))]
    print(f"{layer} follows {follows[0]}")

# %% [markdown]
# ## By how much?
#
# Of every module: the share of the update that each head makes (and the length of its gradient), and the least cosine of two heads. Below 0 they pull apart.

# %%
contributions = hw.contributions(grads, loss_weights, depth=1)
contributions

# %%
axes = contributions.plot()

# %% [markdown]
# ## While it trains
#
# A step says the same on its way, here every 20 steps; nothing in the model changes for it. Left: raw values, never weighted ones. Right: the share of y2 in the
# update of each module.

# %%
import matplotlib.pyplot as plt

optimizer = optax.adam(0.01)
names = objective.names
step = hw.training.make_step(
    lambda params, batch: values_fn(params, *batch), optimizer, contributions=20
)
state = hw.training.init_state(names, params, optimizer)
state, history = hw.training.fit(
    step, state, lambda t: (x, targets), 200, log_every=20, progress=False
)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
values = hw.reports.curves_picture(history, ax=axes[0])
shares = hw.reports.heads_picture(history, "y2", ax=axes[1])

# %% [markdown]
# ## And if loss2 shall leave the trunk alone?
#
# That is a change of the program, not of a weight: cut the path. The routing says whether it worked.


# %%
def values_of_y1_alone_in_the_trunk(params, x, targets):
    kept = jax.lax.stop_gradient(params)
    y1 = values_fn(params, x, targets)["y1"]
    y2 = values_fn({**kept, "D": params["D"]}, x, targets)["y2"]
    return {"y1": y1, "y2": y2}


hw.routing(values_of_y1_alone_in_the_trunk, params, x, targets)

# %% [markdown]
# Further: [the same in Keras, number by number](../guides/coming_from_keras.md), [other models](../guides/your_model.md), [balancers](../guides/balancers.md) that choose the weights in
# every step.
