# %% [markdown]
# # A study, from flags to report
#
# Which weights? A study trains every weighting with several seeds and says what differs by more than seeds do. An experiment is swept by flags, on one machine or
# a cluster:
#
# ```sh
# python -m experiments.main --sweep --experiment=path/to/mine.py --simplex=5 \
#     --seeds=0:4 --steps=120 --folder=studies/mine --slopes
# ```
#
# `hw.sweeps.run` takes the same words as arguments, and fills the same folder; all that follows reads the folder, whoever filled it. The model here has two heads
# that compete for a trunk of one feature.

# %%
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import optax

import headwise as hw

x = jax.random.normal(jax.random.key(0), (256, 6))
target = x @ jax.random.normal(jax.random.key(1), (6, 2)) / 2
data = {"x": x, "near": target[:, :1], "far": target[:, 1:]}
seen, unseen = (
    {n: a[part] for n, a in data.items()} for part in (slice(192), slice(192, None))
)


def values_fn(params, batch):
    h = batch["x"] @ params["trunk"]
    errors = {n: h @ params[n] - batch[n] for n in ("near", "far")}
    return {n: jnp.mean(error**2) for n, error in errors.items()}


def init(key):
    shapes = {"trunk": (6, 1), "near": (1, 1), "far": (1, 1)}
    keys = jax.random.split(key, 3)
    return {n: 0.5 * jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items())}


program = hw.training.program(
    values_fn,
    optax.adam(0.05, eps_root=1e-12),
    init=init,
    batch=lambda key: hw.data.sample(seen, key, batch_size=32),
    evaluate=lambda params, rest: values_fn(params, unseen),
)
folder = pathlib.Path(tempfile.mkdtemp()) / "study"  # yours: one that you keep
design = hw.sweeps.simplex(["near", "far"], 5, interior=True)
settings = dict(steps=120, mode="vmap", folder=folder)
hw.sweeps.run(program, design, seeds=range(4), progress=False, **settings)
higher = {"near": False, "far": False}  # less is better
print(len(hw.sweeps.read(folder)), "trials")

# %% [markdown]
# (`mode=` is measured if it is left out.) Killed at any moment, the same call goes on; with more seeds it runs only what is new.
#
# ## Which way to turn each weight
#
# `--slopes`, or `hw.sweeps.slopes`: the derivative of every final metric in the logarithm of every weight, through the training itself. 1 % more weight changes the
# metric by a hundredth of it. Here of the trials with nearly equal weights; they are kept beside the records.

# %%
trials = hw.sweeps.trials(design, range(4))
middle = [trial for trial in trials if 0.3 < trial.weights["near"] < 0.5]
turns = hw.sweeps.slopes(program, middle, **settings)
print(turns.table(higher))

# %% [markdown]
# ## The table and the verdict
#
# From here on the folder is enough. Means over seeds and their standard deviation; `*` is the best of a column; what is on the front no other weighting beats in
# both.

# %%
records = hw.sweeps.read(folder)
print(hw.reports.sweep_table(records, higher))
print()
print(hw.reports.verdict(records, higher))

# %% [markdown]
# ## The front
#
# Large points are means over seeds, small ones trials; bars are a standard deviation.

# %%
axes = hw.reports.front_picture(records, "near", "far", higher)

# %% [markdown]
# ## As a data frame
#
# One row a trial; a column a weight, setting, metric, and slope where there is one.

# %%
frame = hw.sweeps.to_pandas(records)
columns = [c for c in frame if c.split(".")[0] in ("weights", "seed", "metrics")]
frame[columns].round(2).head(6)

# %% [markdown]
# Any question of pandas, for instance which seed is the unlucky one:

# %%
frame.pivot_table("metrics.near", "weights.near", "seed").round(3)

# %% [markdown]
# ## The report
#
# All of it as one HTML file without a network, to click through and to send. `headwise-report FOLDER` is the same on a command line.

# %%
report = hw.reports.write_report(folder, higher=higher)
print(report.name, f"{report.stat().st_size / 1e6:.0f} MB")

# %% [markdown]
# `hw.reports.compare` gives the numbers behind the verdict as data. [Studies](../guides/studies.md) says what a folder holds, [Sweep your own model](../guides/sweep_your_model.md)
# what else varies, and [From one laptop to a cluster](../guides/launching.md) how the flags run on many machines.
