"""Formulas in float64 NumPy of balancers that go by how values develop."""

import functools
import itertools

import jax
import numpy as np
import optax

import headwise as hw

B = hw.balancers
NAMES = ("a", "b", "c")
STEPS = 12
VALUES = np.random.default_rng(0).uniform(0.2, 3.0, size=(STEPS, 3))
KEYS = jax.random.split(jax.random.key(0), STEPS)


@functools.cache
def compiled(balancer):
    """One program for any number of steps."""

    @jax.jit
    def update(value, present, key, state):
        signals = hw.Signals(value, present=present, key=key)
        decision, state = balancer.update(signals, state)
        return decision.weights, state

    return update


def loop(balancer, values, present=None, keys=KEYS, state=None, names=NAMES):
    """Runs over values [T, H] and present [T, H]; weights [T, H] and the last state."""
    values = np.asarray(values, np.float32)
    present = np.ones(values.shape, bool) if present is None else np.asarray(present)
    state = balancer.init(names) if state is None else state
    update, seen = compiled(balancer), []
    for value, here, key in zip(values, present, keys[: len(values)], strict=True):
        weights, state = update(value, here, key, state)
        seen.append(weights)
    return np.stack(seen), state


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


class Adam:
    """Adam in float64."""

    def __init__(self, rate):
        self.rate, self.t, self.m, self.v = rate, 0, 0.0, 0.0

    def __call__(self, slope):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * slope
        self.v = 0.999 * self.v + 0.001 * slope**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return -self.rate * m / (np.sqrt(v) + 1e-8)


def imtl_l(values, s=0.3, rate=0.05):
    s, adam = np.full(3, s), Adam(rate)
    for v in values:
        yield np.exp(s)
        s = s + adam(np.exp(s) * v - 1)


def dwa(values, temperature=2.0, window=1):
    for t in range(len(values)):
        done = t // window
        means = [values[k * window : (k + 1) * window].mean(0) for k in range(done)]
        ratio = means[-1] / means[-2] if done >= 2 else np.ones(3)
        yield 3 * softmax(ratio / temperature)


def famo(values, least, decay=1e-3, rate=0.025):
    logits, adam, last = np.zeros(3), Adam(rate), None
    for v in values:
        distance = v - least
        if last is not None:
            z = softmax(logits)
            jacobian = np.diag(z) - np.outer(z, z)
            delta = np.log(last) - np.log(distance)
            logits = logits + adam(jacobian @ delta + decay * logits)
        w = softmax(logits) / distance
        yield w / w.sum()
        last = distance


def group_means(u, groups):
    """Of the best split of sorted scalars, found by trying them all."""
    order = np.argsort(u)
    best = None
    for cuts in itertools.combinations(range(1, len(u)), groups - 1):
        parts = np.split(order, cuts)
        cost = sum(np.sum((u[p] - u[p].mean()) ** 2) for p in parts)
        if best is None or cost < best[0]:
            best = cost, parts
    out = np.zeros_like(u)
    for part in best[1]:
        out[part] = u[part].mean()
    return out


def go4align(values, groups, eta=0.1):
    p = np.full(3, 1 / 3)
    for v in values:
        p = p * np.exp(-eta * v)
        p = p / p.sum()
        yield group_means(p * v.sum() / v, groups)


def ldc(values, penalty=0.3, rate=0.05, chain=False):
    pairs = [(0, 1), (1, 2)] if chain else [(0, 1), (1, 2), (0, 2)]
    factor = 1.0 if chain else 2 / 3

    def discrepancy(logits, v):
        x = softmax(logits) * v
        return factor * sum(abs(x[i] - x[j]) for i, j in pairs)

    def total(logits, v):
        return softmax(logits) @ v + penalty * discrepancy(logits, v)

    def slope(f, x, h=1e-6):
        return np.array([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(3)])

    logits, adam = np.zeros(3), Adam(rate)
    for v in values:
        yield slope(lambda v, logits=logits: total(logits, v), v)
        logits = logits + adam(slope(lambda x, v=v: discrepancy(x, v), logits))


def softadapt(values, beta=2.0, normalized=False, loss_weighted=False):
    for t, v in enumerate(values):
        rate = v - values[t - 1] if t else np.zeros(3)
        if normalized and t:
            rate = rate / np.abs(rate).sum()
        w = softmax(beta * rate) * (v if loss_weighted else 1.0)
        yield w / w.sum()


def relobralo(values, alpha=0.7, tau=0.5, rho=0.6):
    w = np.ones(3)
    for t, v in enumerate(values):
        if t:
            stay = bool(jax.random.bernoulli(KEYS[t], rho))
            history = w if stay else 3 * softmax(v / (tau * values[0]))
            w = alpha * history + (1 - alpha) * 3 * softmax(v / (tau * values[t - 1]))
        yield w


def uw_so(values, temperature=0.7):
    for v in values:
        yield softmax(1 / v / temperature)


ADAM = optax.adam(0.05)
LEAST = np.array([0.1, -0.2, 0.0])
FORMULAS = {
    "imtl_l": (B.imtl_l(ADAM, 0.3), imtl_l),
    "dwa": (B.dwa(), dwa),
    "dwa, windows": (B.dwa(0.5, 3), functools.partial(dwa, temperature=0.5, window=3)),
    "famo": (
        B.famo(False, dict(zip(NAMES, LEAST.tolist()))),
        functools.partial(famo, least=LEAST),
    ),
    "famo, strong decay": (
        B.famo(False, decay=0.5, learning_rate=0.1),
        functools.partial(famo, least=0.0, decay=0.5, rate=0.1),
    ),
    "go4align, 1": (B.go4align(1, 0.1), functools.partial(go4align, groups=1)),
    "go4align, 2": (B.go4align(2, 0.1), functools.partial(go4align, groups=2)),
    "go4align, 3": (B.go4align(3, 0.1), functools.partial(go4align, groups=3)),
    "ldc": (B.ldc(0.3, ADAM), ldc),
    "ldc, chain": (B.ldc(0.3, ADAM, "chain"), functools.partial(ldc, chain=True)),
    "ldc, no penalty": (B.ldc(0.0, ADAM), functools.partial(ldc, penalty=0.0)),
    "softadapt": (B.softadapt(2.0), softadapt),
    "softadapt, normalized": (
        B.softadapt(-2.0, normalized=True),
        functools.partial(softadapt, beta=-2.0, normalized=True),
    ),
    "softadapt, loss-weighted": (
        B.softadapt(2.0, loss_weighted=True),
        functools.partial(softadapt, loss_weighted=True),
    ),
    "relobralo": (B.relobralo(0.7, 0.5, 0.6), relobralo),
    "uw_so": (B.uw_so(0.7), uw_so),
}


@functools.cache
def weights_of(name):
    return loop(FORMULAS[name][0], VALUES)[0]
