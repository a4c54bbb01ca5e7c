"""Models of many equal heads: columns of one output, and tasks of an agent."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import headwise as hw


class Crowd(NamedTuple):
    """A model of many heads on one batch."""

    values_fn: Callable[..., dict[str, jax.Array]]
    params: Any
    batch: Any


def _normal(rng: np.random.Generator, *shape: int) -> jax.Array:
    """Gaussian, scaled to keep the size of activations."""
    scale = np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 1.0
    return jnp.asarray(rng.normal(size=shape) / scale, jnp.float32)


def _names(heads: int) -> list[str]:
    return [f"y{h:03}" for h in range(heads)]


def _of_columns(
    model: Callable[[Any, Any], jax.Array], heads: int
) -> Callable[..., dict[str, jax.Array]]:
    """Every column of one output is a head, by `hw.Objective`."""
    loss = optax.losses.squared_error
    objective = hw.Objective(dict.fromkeys(_names(heads), loss))

    def values_fn(params: Any, batch: Any) -> dict[str, jax.Array]:
        out = model(params, batch["inputs"])
        outputs = {name: out[:, i] for i, name in enumerate(_names(heads))}
        return objective.values(outputs, batch["targets"])

    return values_fn


def _targets(rng: np.random.Generator, examples: int, heads: int) -> dict:
    return {name: _normal(rng, examples) for name in _names(heads)}


def mlp(heads: int) -> Crowd:
    """Columns of one output of an MLP: three layers of 128, batch 256."""
    rng = np.random.default_rng(0)
    params = {
        "trunk": [_normal(rng, 128, 128) for _ in range(3)],
        "out": _normal(rng, 128, heads),
    }

    def model(params: dict, x: jax.Array) -> jax.Array:
        for w in params["trunk"]:
            x = jnp.tanh(x @ w)
        return x @ params["out"]

    batch = {"inputs": _normal(rng, 256, 128), "targets": _targets(rng, 256, heads)}
    return Crowd(_of_columns(model, heads), params, batch)


def gnn(heads: int) -> Crowd:
    """Columns of a GNN: 3 rounds of width 64, 32 graphs, 640 nodes, 1,400 edges."""
    rng = np.random.default_rng(0)
    graphs, nodes, edges, width = 32, 640, 1400, 64

    def layer(inputs: int) -> dict:
        return {"w": _normal(rng, inputs, width), "b": jnp.zeros(width)}

    params = {
        "embed": layer(16),
        "rounds": [
            {"edge": layer(2 * width), "node": layer(2 * width)} for _ in range(3)
        ],
        "out": {"w": _normal(rng, width, heads), "b": jnp.zeros(heads)},
    }
    senders, receivers = rng.integers(0, nodes, (2, edges))
    graph_of = np.sort(rng.integers(0, graphs, nodes))

    def dense(p: dict, x: jax.Array) -> jax.Array:
        return x @ p["w"] + p["b"][None]

    def model(params: dict, x: dict) -> jax.Array:
        h = jax.nn.relu(dense(params["embed"], x["nodes"]))
        for p in params["rounds"]:
            ends = [h[x["senders"]], h[x["receivers"]]]
            message = jax.nn.relu(dense(p["edge"], jnp.concatenate(ends, -1)))
            got = jax.ops.segment_sum(message, x["receivers"], nodes)
            h = h + jax.nn.relu(dense(p["node"], jnp.concatenate([h, got], -1)))
        return dense(params["out"], jax.ops.segment_sum(h, x["graph_of"], graphs) / 20)

    inputs = {
        "nodes": _normal(rng, nodes, 16),
        "senders": jnp.asarray(senders),
        "receivers": jnp.asarray(receivers),
        "graph_of": jnp.asarray(graph_of),
    }
    batch = {"inputs": inputs, "targets": _targets(rng, graphs, heads)}
    return Crowd(_of_columns(model, heads), params, batch)


def ppo(heads: int) -> Crowd:
    """An agent: policy, entropy and value of every task; a critic of its own."""
    rng = np.random.default_rng(0)
    tasks, examples, width, actions = heads // 3, 128, 64, 6

    def network(outputs: int) -> dict:
        return {
            "trunk": [_normal(rng, width, width) for _ in range(2)],
            "tasks": [_normal(rng, width, outputs) for _ in range(tasks)],
        }

    params = {"actor": network(actions), "critic": network(1)}

    def values_fn(params: dict, batch: dict) -> dict[str, jax.Array]:
        features = {}
        for name, p in params.items():
            x = batch["observations"]
            for w in p["trunk"]:
                x = jnp.tanh(x @ w)
            features[name] = x
        values: dict[str, jax.Array] = {}
        for i, data in enumerate(batch["tasks"]):
            logits = features["actor"] @ params["actor"]["tasks"][i]
            log = jax.nn.log_softmax(logits)
            taken = jnp.take_along_axis(log, data["actions"][:, None], 1)[:, 0]
            ratio = jnp.exp(taken - data["old"])
            clipped = jnp.clip(ratio, 0.8, 1.2)
            gain = jnp.minimum(ratio * data["advantage"], clipped * data["advantage"])
            critic = (features["critic"] @ params["critic"]["tasks"][i])[:, 0]
            values |= {
                f"policy{i:02}": -jnp.mean(gain),
                f"entropy{i:02}": jnp.mean(jnp.sum(jnp.exp(log) * log, -1)),
                f"value{i:02}": jnp.mean(jnp.square(critic - data["returns"])),
            }
        return values

    def task() -> dict:
        return {
            "actions": jnp.asarray(rng.integers(0, actions, examples)),
            "old": jnp.full(examples, -np.log(actions), jnp.float32),
            "advantage": _normal(rng, examples),
            "returns": _normal(rng, examples),
        }

    batch = {
        "observations": _normal(rng, examples, width),
        "tasks": [task() for _ in range(tasks)],
    }
    return Crowd(values_fn, params, batch)


CROWDS = {crowd.__name__: crowd for crowd in (mlp, gnn, ppo)}
