"""Small convex problems of H heads, solved on the device inside the compiled step.

Each runs inside `jit` and `vmap` without a host solver, in float64 where it is given
float64, answers the same at every scale of the gradients, and is defined on zero,
duplicate and antiparallel rows.
"""

from headwise.solvers._box_qp import box_qp
from headwise.solvers._box_qp import nonnegative_qp
from headwise.solvers._conflict_averse import conflict_averse
from headwise.solvers._fairness import fair
from headwise.solvers._linear_program import linear_program
from headwise.solvers._min_norm import min_norm
from headwise.solvers._projection import project_simplex

__all__ = (
    "box_qp",
    "conflict_averse",
    "fair",
    "linear_program",
    "min_norm",
    "nonnegative_qp",
    "project_simplex",
)
