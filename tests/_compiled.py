"""Programs as users have them, for claims on their memory and operations.

The tests' own flags (conftest.py) compile faster, and fuse otherwise.
"""

import importlib.metadata

_OPTIONS = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _OPTIONS["xla_cpu_use_fusion_emitters"] = True


def as_users(lowered):
    """What `jax.jit(f).lower(...)` gave, compiled without the tests' flags."""
    return lowered.compile(compiler_options=_OPTIONS)
