"""Headwise: multi-task training for JAX.

Heads have losses, losses have weights, and every head's gradient can be seen.
"""

from headwise import losses as losses
from headwise import objective as objective
from headwise.objective import named as named
from headwise.objective import Objective as Objective
