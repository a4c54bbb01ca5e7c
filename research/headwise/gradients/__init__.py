"""Gradients: what each head does to every parameter, for any JAX model."""

from headwise.gradients._affinity import affinity
from headwise.gradients._backward import Backward
from headwise.gradients._backward import linearize
from headwise.gradients._contributions import Contributions
from headwise.gradients._contributions import contributions
from headwise.gradients._gramian import cosines
from headwise.gradients._gramian import gramian
from headwise.gradients._grouping import group_heads
from headwise.gradients._grouping import Grouping
from headwise.gradients._head_grads import head_grads
from headwise.gradients._head_grads import with_aux
from headwise.gradients._head_gramian import head_gramian
from headwise.gradients._monitor import monitor
from headwise.gradients._routing import Routing
from headwise.gradients._routing import routing

__all__ = (
    "Backward",
    "Contributions",
    "Grouping",
    "Routing",
    "affinity",
    "contributions",
    "cosines",
    "gramian",
    "group_heads",
    "head_grads",
    "head_gramian",
    "linearize",
    "monitor",
    "routing",
    "with_aux",
)
