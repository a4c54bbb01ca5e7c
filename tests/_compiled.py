"""Programs as users have them, for claims on their memory and operations.

The tests' own flags (conftest.py) compile faster, and fuse otherwise. Whether
machine code is optimised changes neither: the same bytes and flops of nine losses.
"""

import importlib.metadata

_OPTIONS = None
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _OPTIONS = {"xla_cpu_use_fusion_emitters": True}


def as_users(lowered):
    """What `jax.jit(f).lower(...)` gave, compiled without the tests' flags."""
    return lowered.compile(compiler_options=_OPTIONS)
