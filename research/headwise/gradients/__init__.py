"""Gradients: what each head does to every parameter, for any JAX model."""

from headwise.gradients._contributions import Contributions
from headwise.gradients._contributions import contributions
from headwise.gradients._gramian import cosines
from headwise.gradients._gramian import gramian
from headwise.gradients._gramian import head_gramian
from headwise.gradients._head_grads import head_grads
from headwise.gradients._head_grads import with_aux
from headwise.gradients._routing import Routing
from headwise.gradients._routing import routing

__all__ = (
    "Contributions",
    "Routing",
    "contributions",
    "cosines",
    "gramian",
    "head_grads",
    "head_gramian",
    "routing",
    "with_aux",
)
