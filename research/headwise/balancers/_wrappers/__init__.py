"""Balancers around another balancer, which change what it answers or is shown.

Its weights: `clipped`, `rescaled`, `smoothed`, `cr_mogm`; what it is shown:
`with_preferences`, `clip_heads`; when it is asked: `every`, `warm_up`, `fallback`.

One factory a file, which has its name. `_wrapped` makes them: it passes on all that a
wrapper does not change.
"""

from headwise.balancers._wrappers._clip_heads import clip_heads
from headwise.balancers._wrappers._clipped import clipped
from headwise.balancers._wrappers._cr_mogm import cr_mogm
from headwise.balancers._wrappers._every import every
from headwise.balancers._wrappers._fallback import fallback
from headwise.balancers._wrappers._rescaled import rescaled
from headwise.balancers._wrappers._smoothed import smoothed
from headwise.balancers._wrappers._warm_up import warm_up
from headwise.balancers._wrappers._with_preferences import with_preferences

__all__ = (
    "clip_heads",
    "clipped",
    "cr_mogm",
    "every",
    "fallback",
    "rescaled",
    "smoothed",
    "warm_up",
    "with_preferences",
)
