"""What the experiments share: flags, one run, a sweep, what is shown of them."""
