"""Which head moves which parameter: read off the program, not off numbers."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _text
from headwise import _trees
from headwise.gradients import _dependence
from headwise.gradients import _head_grads
from headwise.gradients import _head_sets
from headwise.gradients import _tables
from headwise.typing import PyTree
from headwise.typing import ValuesFn


@dataclasses.dataclass(frozen=True)
class Routing:
    """For every head, which parameters its loss moves. `print` shows a table."""

    reaches: dict[str, PyTree]
    """{name of head: pytree of bool like the parameters}."""

    @property
    def names(self) -> tuple[str, ...]:
        """The heads, in sorted order."""
        return tuple(sorted(self.reaches))

    def _count(self) -> PyTree:
        return jax.tree.map(lambda *flags: sum(flags), *self.reaches.values())

    @property
    def shared(self) -> PyTree:
        """Pytree of bool: parameters that two or more heads reach."""
        return jax.tree.map(lambda count: count > 1, self._count())

    def private(self, name: str) -> PyTree:
        """Pytree of bool: parameters that this head reaches and no other.

        Raises:
            ValueError: no such head.
        """
        _checks.known_names("name", self.names, [name])
        return jax.tree.map(
            lambda count, mine: mine and count == 1, self._count(), self.reaches[name]
        )

    @property
    def unreached(self) -> PyTree:
        """Pytree of bool: parameters that no head moves."""
        return jax.tree.map(lambda count: count == 0, self._count())

    def by_module(self, depth: int | None = None) -> dict[str, tuple[str, ...]]:
        """{module: names of the heads that reach each parameter of it}.

        A module whose parameters are reached by different heads is split into its
        parts, whatever the depth.
        """
        flags = [jax.tree.leaves(self.reaches[name]) for name in self.names]
        movers = [
            tuple(itertools.compress(self.names, of_leaf))
            for of_leaf in zip(*flags, strict=True)
        ]
        modules = _trees.modules(self.reaches[self.names[0]], depth, movers)
        return dict(zip(modules, movers, strict=True))

    def moves(self, name: str, depth: int | None = None) -> tuple[str, ...]:
        """The modules that the loss of a head moves.

        Raises:
            ValueError: no such head.
        """
        _checks.known_names("name", self.names, [name])
        return tuple(m for m, heads in self.by_module(depth).items() if name in heads)

    def __str__(self) -> str:
        return _tables.routing(self)

    def _repr_html_(self) -> str:
        from headwise.gradients import _html

        return _html.routing(self)

    def mermaid(self, depth: int | None = None) -> str:
        """Text of a Mermaid graph: an arrow from each loss to what it moves."""
        lines = ["graph LR"]
        heads = {name: f"h{i}" for i, name in enumerate(self.names)}
        lines += [f'  {label}(["{_entities(name)}"])' for name, label in heads.items()]
        for i, (module, movers) in enumerate(self.by_module(depth).items()):
            words = f"{_entities(module)}<br/>{_entities(_tables.kind(movers))}"
            lines.append(f'  m{i}["{words}"]')
            lines += [f"  {heads[name]} --> m{i}" for name in movers]
        return "\n".join(lines)

    def plot(self, ax: Any = None, depth: int | None = None) -> Any:
        """A picture: heads left, modules right, an arrow where a loss moves one.

        Args:
            ax: matplotlib axes; None makes new ones.
            depth: of the modules, as in `hw.contributions`.

        Returns:
            The axes. Needs matplotlib (`pip install "headwise[plots]"`).
        """
        from headwise.gradients import _plots

        return _plots.routing(self, ax, depth)


def _entities(name: str) -> str:
    """A name inside the quotes of a Mermaid graph, where #34; is a quote."""
    plain = " _-./"
    return "".join(
        c if c.isalnum() or c in plain else f"#{ord(c)};" for c in _text.printable(name)
    )


def routing(
    values_fn: ValuesFn,
    params: PyTree,
    *args: Any,
    has_aux: bool = False,
    stateful: bool = False,
    **kwargs: Any,
) -> Routing:
    """Proves from the program which head moves which parameter.

    The backward pass is traced with a symbol for every head's cotangent; head h
    reaches a parameter exactly if the gradient of that parameter depends on the
    symbol of h. Nothing is evaluated: a gradient that happens to be 0 on a batch is
    no missing path, and `stop_gradient`, integer paths and custom derivatives are
    respected, since JAX's own differentiation decides. Heads that share an array
    (stacked losses, concatenated channels) are told apart by its entries; where that
    is not possible, behind an index that the program computes for example, they count
    as one: "moves" may then be too much, "-" never is. A parameter is one thing: a
    head that moves one entry of it moves it.

    Args:
        values_fn, has_aux, stateful: as in `hw.head_grads`; what comes back beside the
            values, aux or rest, is dropped.
        params, *args, **kwargs: arrays or `jax.ShapeDtypeStruct`s; only shapes matter.
            With `stateful`, args are rest, batch and key.

    Returns:
        `Routing`: `reaches`, `shared`, `private(name)`, `print`, `mermaid`, `plot`.

    Raises:
        TypeError, ValueError: as `hw.head_grads`.

    Example:
        >>> def values_fn(p, x):                       # x -> A -> B -> C or D
        ...     h = p["B"] * (p["A"] * x)
        ...     return {"loss1": p["C"] * h, "loss2": p["D"] * h}
        >>> print(hw.routing(values_fn, dict(A=1.0, B=2.0, C=3.0, D=4.0), 5.0))
        module   loss1   loss2
        ─────────────────────────────────────────
        A        moves   moves             shared
        B        moves   moves             shared
        C        moves       -   private to loss1
        D            -   moves   private to loss2
        loss1 moves A, B, C
        loss2 moves A, B, D
    """
    _trees.check_floating("params", params)
    plain = _head_grads.with_aux(values_fn, has_aux, stateful)

    # Static arguments (modules, strings) stay out of the trace; arrays may be given
    # as shapes.
    leaves, structure = jax.tree.flatten((args, kwargs))
    traced = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype")]

    def value(p: PyTree, arrays: list) -> dict:
        filled = list(leaves)
        for i, array in zip(traced, arrays, strict=True):
            filled[i] = array
        inner_args, inner_kwargs = jax.tree.unflatten(structure, filled)
        return plain(p, *inner_args, **inner_kwargs)[0]

    def backward(p: PyTree, arrays: list, cotangents: dict) -> PyTree:
        values, pullback = jax.vjp(lambda p: value(p, arrays), p)
        # Of the values' own type, which may differ between devices (shard_map).
        return pullback(
            {n: cotangents[n] + jnp.zeros_like(v) for n, v in values.items()}
        )[0]

    arrays = [leaves[i] for i in traced]
    shapes = jax.eval_shape(value, params, arrays)
    names = tuple(shapes)
    program = jax.make_jaxpr(backward)(
        params, arrays, {n: jnp.zeros(s.shape, s.dtype) for n, s in shapes.items()}
    )
    free = len(program.jaxpr.invars) - len(names)
    sets = _dependence.dependence(
        program, [0] * free + [_head_sets.single(h) for h in range(len(names))]
    )
    treedef = jax.tree.structure(params)
    return Routing(
        {
            name: jax.tree.unflatten(treedef, [bool(s >> h & 1) for s in sets])
            for h, name in enumerate(names)
        }
    )
