# %% [markdown]
# # Losses of a 3-D segmentation
#
# Dice, generalized Dice, Tversky and IoU of volumes `(batch, x, y, z, class)`: what they say of typical errors, which gradient they give, what happens where a
# class is absent, and what a small network learns from each. Every class may be large or small; here an organ is 12 % of a volume, a lesion 0.5 %.

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import headwise as hw

CLASSES = ("background", "organ", "lesion")
GRID = jnp.stack(jnp.meshgrid(*3 * [jnp.arange(16.0)], indexing="ij"), -1)


def ball(centre, radius):
    return jnp.sum((GRID - centre.reshape(1, 1, 1, 3)) ** 2, -1) <= radius**2


def labels_of(organ, lesion, radius=1.7):
    return jnp.where(ball(lesion, radius), 2, jnp.where(ball(organ, 4.9), 1, 0))


middle, spot = jnp.full(3, 7.5), jnp.array([5.0, 7.0, 8.0])
truth = jax.nn.one_hot(labels_of(middle, spot), 3)[None]
for name, share in zip(CLASSES, truth.mean((0, 1, 2, 3))):
    print(f"{name:10s} {100 * share:4.1f} %")

# %% [markdown]
# ## Values
#
# `hw.losses.f(preds, targets)` returns a value an example and class, `[B, C]` (generalized Dice, one ratio for all classes, `[B]`). Nothing is averaged yet. Five
# predictions, each wrong in one way:

# %%
losses = {
    "dice": hw.losses.dice,
    "iou": hw.losses.iou,
    "tversky": functools.partial(hw.losses.tversky, alpha=0.3, beta=0.7),
    "generalized_dice": hw.losses.generalized_dice,
}
hot = functools.partial(jax.nn.one_hot, num_classes=3)
healthy = hot(labels_of(middle, spot).clip(0, 1))[None]
predictions = {
    "perfect": truth,
    "organ moved by 1": hot(labels_of(middle + jnp.array([1.0, 0, 0]), spot))[None],
    "lesion too large": hot(labels_of(middle, spot, 2.3))[None],
    "lesion missed": healthy,
    "uniform": jnp.full_like(truth, 1 / 3),
}
print(" " * 18 + "".join(f"{name:>20s}" for name in losses))
compiled = {name: jax.jit(loss) for name, loss in losses.items()}
for name, preds in predictions.items():
    values = [np.ravel(loss(preds, truth)) for loss in compiled.values()]
    cells = [" ".join(f"{x:.3f}" for x in row) for row in values]
    print(f"{name:18s}" + "".join(f"{cell:>20s}" for cell in cells))

# %% [markdown]
# Three numbers are background, organ and lesion. A missed lesion is 0 to background and nearly all to Dice of its own class: a mean over classes sees it, one over
# voxels does not. Tversky with beta > alpha punishes the miss more than the false alarm. IoU is a monotone function of Dice, `D = 2 I / (1 + I)`, and stricter
# in between.
#
# The formulas in NumPy and float64, sums over the voxels of a class:

# %%
p, t = (np.asarray(a, np.float64)[0] for a in (predictions["organ moved by 1"], truth))
both, of_p, of_t = (a.sum((0, 1, 2)) for a in (p * t, p, t))
fp, fn = of_p - both, of_t - both
w = 1 / of_t**2
by_hand = {
    "dice": 1 - 2 * both / (of_p + of_t),
    "iou": 1 - both / (both + fp + fn),
    "tversky": 1 - both / (both + 0.3 * fp + 0.7 * fn),
    "generalized_dice": 1 - 2 * (w * both).sum() / (w * (of_p + of_t)).sum(),
}
for name, loss in compiled.items():
    value = np.ravel(loss(predictions["organ moved by 1"], truth))
    print(name, "equal:", bool(np.allclose(value, by_hand[name], atol=1e-5)))

# %% [markdown]
# ## Gradients
#
# What trains is the gradient of the logits. Of a network that knows nothing (all classes alike, but for a little noise): its length over the voxels of each true
# class, in units of that over all (squares add up to 1).

# %%
noise = 0.1 * jax.random.normal(jax.random.key(0), truth.shape)
inside = {name: truth[..., i] == 1 for i, name in enumerate(CLASSES)}
heads = dict(losses, cross_entropy=hw.losses.cross_entropy)
for name, loss in heads.items():
    if name != "cross_entropy":
        loss = functools.partial(loss, activation=jax.nn.softmax)
    gradient = jax.jit(jax.grad(lambda z, f=loss: jnp.mean(f(z, truth))))(noise)
    length = jnp.linalg.norm(gradient, axis=-1)
    whole = jnp.linalg.norm(length)
    shares = [float(jnp.linalg.norm(length * m) / whole) for m in inside.values()]
    print(f"{name:18s}", " ".join(f"{n} {x:.2f} " for n, x in zip(CLASSES, shares)))

# %% [markdown]
# ## A class that is absent
#
# Neither in the truth nor predicted: 0, as perfect as it gets, since `smooth` stands above and below. Absent, and predicted in the least trace: nearly 1 a volume,
# since 0.001 of 4096 voxels is already much more than nothing. Three ways out: a larger `smooth`, one ratio for the whole batch, or a mask for classes
# that nobody looked for in this volume.

# %%
trace = healthy.at[..., 2].add(0.001)
batch = jnp.concatenate([trace, truth]), jnp.concatenate([healthy, truth])
asked = jnp.array([[True, True, False], [True, True, True]])[:, None, None, None]
dice = hw.losses.dice
for name, value in {
    "not predicted": dice(healthy, healthy)[0, 2],
    "a trace of 0.001": dice(trace, healthy)[0, 2],
    "smooth=100": dice(trace, healthy, smooth=100.0)[0, 2],
    "over_batch=True": dice(*batch, over_batch=True)[2],
    "where=asked": dice(*batch, where=asked)[0, 2],
    "generalized_dice": hw.losses.generalized_dice(trace, healthy)[0],
}.items():
    print(f"{name:18s}{value:.3f}")

# %% [markdown]
# ## A small training
#
# A few neurons a voxel learn from noisy scans. Each loss is a head of its own on the *same* output, and a weighting of 1 and zeros trains with one of them: four trainings, one
# compiled step. (A head of weight 0 leaves no trace in the gradient.)


# %%
@functools.partial(jax.jit, static_argnames="count")
def draw(key, count=2):
    """Scans [count, 16, 16, 16, 1] and their labels, one-hot."""
    k1, k2, k3 = jax.random.split(key, 3)
    centres = 7.5 + jax.random.uniform(k1, (count, 3), minval=-1.5, maxval=1.5)
    spots = centres + jax.random.uniform(k2, (count, 3), minval=-2, maxval=2)
    labels = jax.vmap(labels_of)(centres, spots)
    scans = jnp.array([0.0, 1.0, 2.0])[labels]
    scans += 0.3 * jax.random.normal(k3, scans.shape)
    return {"scans": scans[..., None], "truth": hot(labels)}


@jax.jit
def network(params, scans):
    """Two layers on each voxel: its intensity, the mean of its 27 neighbours, a bias."""
    cube = (1, 3, 3, 3, 1)
    means = jax.lax.reduce_window(scans, 0.0, jax.lax.add, cube, (1,) * 5, "SAME") / 27
    features = jnp.concatenate([scans, means, jnp.ones_like(scans)], -1)
    h = jnp.tanh(features.reshape(-1, 3) @ params["one"])
    return (h @ params["two"]).reshape(*scans.shape[:-1], 3)


def init(key):
    one, two = jax.random.split(key)
    return {
        "one": jax.random.normal(one, (3, 12)),
        "two": 0.3 * jax.random.normal(two, (12, 3)),
    }


objective = hw.Objective(
    {n: functools.partial(f, activation=jax.nn.softmax) for n, f in losses.items()}
)


def values_fn(params, batch):
    z = network(params, batch["scans"])
    every = dict.fromkeys(losses, z), dict.fromkeys(losses, batch["truth"])
    return objective.values(*every)


held_out = draw(jax.random.key(99), 4)


def evaluate(params, rest):
    found = hot(network(params, held_out["scans"]).argmax(-1))
    score = 1 - hw.losses.dice(found, held_out["truth"], over_batch=True, smooth=0.0)
    return {"organ": score[1], "lesion": score[2]}


program = hw.training.program(
    values_fn, optax.adam(0.03), init=init, batch=draw, evaluate=evaluate
)
step, found = jax.jit(program.step), {}
for name in losses:
    weights = {n: float(n == name) for n in losses}
    state = program.init({"weights": weights, "seed": 0})
    for t in range(200):
        state, _ = step(state, t)
    score = program.evaluate(state)
    found[name] = network(state.training.params, held_out["scans"])[0].argmax(-1)
    print(f"{name:18s}organ {score['organ']:.1f}  lesion {score['lesion']:.1f}")

# %% [markdown]
# Dice of scans that were not seen: 1 is perfect. In so few steps the three that count every class alike learn the organ and miss the lesion; generalized Dice, whose
# gradient was nearly all the lesion's, learns the lesion and not yet the organ. (Mixtures of them are what the weights are for.) A slice through the middle of a lesion:

# %%
one = held_out["truth"][0].argmax(-1)
level = int((one == 2).sum((0, 1)).argmax())
pictures = {"scan": held_out["scans"][0, ..., 0], "truth": one, **found}
figure, axes = plt.subplots(1, len(pictures), figsize=(11, 2.2), layout="constrained")
for ax, (name, picture) in zip(axes, pictures.items()):
    top = 2.5 if name == "scan" else 2
    ax.imshow(picture[:, :, level], cmap="gray", vmin=0, vmax=top)
    ax.set_title(name, fontsize=9)
    ax.set_axis_off()

# %% [markdown]
# The loop above called the program by hand, to look into it. `hw.sweeps.run(program, design, seeds=..., steps=...)` runs any number of weightings of it, mixtures
# too, in a folder that can be killed and read: [Sweep your own model](../guides/sweep_your_model.md). Which loss for what: [Losses](../guides/losses.md).
