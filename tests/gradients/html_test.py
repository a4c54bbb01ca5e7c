"""What a notebook shows of routing and contributions."""

import html.parser

import jax
import jax.numpy as jnp
import numpy as np

import headwise as hw

ODD = '</td><script>alert("1")</script>'


class Table(html.parser.HTMLParser):
    """Rows of texts, and every tag that was met."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, text):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += text


def values_fn(params):
    trunk = params["trunk"]
    return {
        "up": jnp.sum(trunk) * params["up"],
        ODD: -2.0 * jnp.sum(trunk) * params[ODD],
    }


PARAMS = {"trunk": jnp.ones(2), "up": jnp.float32(1), ODD: jnp.float32(1)}


def test_routing_has_a_mark_where_a_loss_moves_a_module():
    got = Table(hw.routing(values_fn, PARAMS)._repr_html_())
    assert "script" not in got.tags
    assert got.rows[0] == ["module", ODD, "up", ""]
    rows = {row[0]: row[1:] for row in got.rows[1:]}
    assert rows["trunk"] == ["●", "●", "shared"]
    assert rows["up"] == ["", "●", "private to up"]


def test_contributions_are_shares_and_norms_of_the_arrays():
    _, grads = jax.jit(hw.head_grads(values_fn))(PARAMS)
    c = jax.jit(hw.contributions)(grads)
    got = Table(c._repr_html_())
    assert "script" not in got.tags
    rows = {row[0]: row[1:] for row in got.rows[1:]}
    # On the trunk the gradients are (1, 1) and -2 (1, 1): the update is their sum,
    # (-1, -1), so the shares are -2 / -2 of it doubled: 200 % and -100 %.
    assert rows["trunk"] == ["200 % (2.8e+00)", "-100 % (1.4e+00)", "-1.00"]
    assert rows["up"] == ["", "100 % (2.0e+00)", ""]
    np.testing.assert_allclose(c.share[c.modules.index("trunk")], [2.0, -1.0])
