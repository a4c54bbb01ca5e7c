"""Names that a table, a graph, a picture or a file may take for something else."""

SHOWN = {
    "a\nb": r"a\nb",
    "a\r\nb": r"a\r\nb",
    "tab\there": r"tab\there",
    "\x1b[2J": r"\x1b[2J",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b31m": r"\x9b31m",
    "\x00": r"\x00",
    "\x08\x08": r"\x08\x08",
    "\x7f": r"\x7f",
    "\u202egnp.exe": r"\u202egnp.exe",  # right to left from here on
    "zero\u200bwidth": r"zero\u200bwidth",
    "\u2028": r"\u2028",
    "\ufeffmark": r"\ufeffmark",
    "\xa0": r"\xa0",
}
"""{name: what can be seen of it}."""

PLAIN = (
    *("[/x]", "[bold]", "[red]a[/red]", "[", "]", "[]", "[link=x]", "\\[x]", "\\"),
    *('"', '""quoted""', "'", "`code`", "a`b", "(", ")", "(round)", "{x}", "{{", "%s"),
    *("$\\frac$", "$", "$$", "$x$", "\\$x$", "US$ 5 or $6", "\\alpha", "_hidden", "__"),
    *("<script>alert(1)</script>", "<br/>", "<b>", "&amp;", "&", "#quot;", "#34;", "#"),
    *("end", "graph LR", "A --> B", "%% comment", "style x:y#1;", "click", ";", ":"),
    *("cosine", "norm", "share", "pull", "a|b", "a", "b|c", "c", "|", "||", "a|", "|b"),
    *("/", "a/b", "//", ".", "..", "a.b", "../../etc/passwd", "~", "*", "-", "--flag"),
    *(" ", "  two  ", "0", "None", "nan", "true", "value", "params", "x" * 300),
    *("Größe", "深度", "глубина", "🧠", "e\u0301", "ﬁ", "١٢"),
)

NAMES = (*PLAIN, *SHOWN)
