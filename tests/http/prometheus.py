"""prometheus.py: a strict reader of the text format 0.0.4. What a scraper would forgive is an error here."""

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
VALUE = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|Inf)|NaN")
TYPES = ("counter", "gauge", "histogram")


class Family:
    def __init__(self, name, help_text, kind):
        self.name, self.help, self.kind = name, help_text, kind
        self.samples = {}  # (sample's name, ((label, value), ...)) -> number, in order


def _labels(text, line):
    """'a="b",c="d"' -> (("a", "b"), ("c", "d"))"""
    out, at = [], 0
    while at < len(text):
        match = LABEL.match(text, at)
        assert match, f"labels: {line}"
        out.append((match[1], re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], match[2])))
        at = match.end()
        if at < len(text):
            assert text[at] == "," and at + 1 < len(text), f"labels: {line}"
            at += 1
    assert len({name for name, _ in out}) == len(out), f"a label twice: {line}"
    return tuple(out)


def _sample(line, family):
    match = re.fullmatch(rf"({NAME})(?:\{{(.*)\}})? (\S+)", line)
    assert match and VALUE.fullmatch(match[3]), f"no sample: {line}"
    name, labels = match[1], _labels(match[2] or "", line)
    names = {family.name + s for s in ("_bucket", "_sum", "_count")} if family.kind == "histogram" else {family.name}
    assert name in names, f"stands below {family.name}: {line}"
    key = (name, tuple(sorted(labels)))
    assert key not in family.samples, f"twice: {line}"
    family.samples[key] = float(match[3])


def _histogram(family):
    series = {}
    for (name, labels), value in family.samples.items():
        rest = tuple(pair for pair in labels if pair[0] != "le")
        one = series.setdefault(rest, {"buckets": []})
        if name.endswith("_bucket"):
            assert rest != labels, f"{family.name}: a bucket without le"
            one["buckets"].append((float(dict(labels)["le"]), value))
        else:
            one[name.rsplit("_", 1)[1]] = value
    for labels, one in series.items():
        where = f"{family.name}{labels}: {one}"
        bounds, counts = [b for b, _ in one["buckets"]], [c for _, c in one["buckets"]]
        assert {"sum", "count"} <= set(one), where
        assert bounds and bounds == sorted(set(bounds)) and bounds[-1] == float("inf"), where
        assert counts == sorted(counts) and counts[-1] == one["count"], where
        assert one["count"] > 0 or one["sum"] == 0, where


def parse(text):
    """{family's name: Family}; AssertionError where the text breaks a rule."""
    assert text.endswith("\n") and "\r" not in text and "\n\n" not in text
    families, help_line, family = {}, None, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            match = re.fullmatch(rf"# HELP ({NAME}) ((?:[^\\]|\\[\\n])+)", line)
            assert match and help_line is None and match[1] not in families, line
            help_line, family = match, None
        elif line.startswith("# TYPE "):
            match = re.fullmatch(rf"# TYPE ({NAME}) (\w+)", line)
            assert match and help_line is not None and help_line[1] == match[1] and match[2] in TYPES, line
            family = families[match[1]] = Family(match[1], help_line[2], match[2])
            help_line = None
        else:
            assert family is not None and not line.startswith("#"), f"without HELP and TYPE: {line}"
            _sample(line, family)
    assert help_line is None
    for family in families.values():
        if family.kind == "histogram":
            _histogram(family)
        assert (family.kind == "counter") == family.name.endswith("_total"), f"{family.name} is a {family.kind}"
        for (name, _), value in family.samples.items():
            assert family.kind == "gauge" or value >= 0, f"{name} {value}"
    return families
