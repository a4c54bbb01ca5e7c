"""The experiments, one file each: `SPEC` and `build(settings)`; see template.py."""
