"""The network of the question with two heads, and who moves what as short text."""

import headwise as hw

ABCD = {"A": 2.0, "B": 3.0, "C": 5.0, "D": 7.0}


def network(p, x):
    """x -> A -> B -> C to loss1, D to loss2."""
    h = p["B"] * (p["A"] * x)
    return {"loss1": p["C"] * h, "loss2": p["D"] * h}


def moved(program, params, *args, **kwargs):
    """{head: names of the parameters it moves}, for flat dicts of parameters."""
    reaches = hw.routing(program, params, *args, **kwargs).reaches
    return {
        name: "".join(sorted(key for key, flag in tree.items() if flag))
        for name, tree in reaches.items()
    }
