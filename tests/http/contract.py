"""contract.py: holds replies to /openapi.json. The part of JSON Schema that the document uses, and no more: an unknown
keyword fails, so that this file and the document cannot drift apart in silence."""

import re

IGNORED = {"description", "default", "format", "contentEncoding", "title", "examples", "deprecated"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}
# Refusals that are made from the request line and the headers, before there is a route: any path may answer them.
ANYWHERE = {400, 401, 405, 408, 411, 413, 414, 431, 503}


class Contract:
    def __init__(self, document):
        self.document = document
        self.routes = []
        for path, item in document["paths"].items():
            pattern = re.sub(r"\{\w+\}", "[^/]+", path.replace(".", r"\."))
            self.routes.append((re.compile(pattern), path, item))
        self.used = set()  # (method, path, status) that was checked

    def _resolve(self, node):
        while "$ref" in node:
            at = self.document
            for step in node["$ref"].removeprefix("#/").split("/"):
                at = at[step]
            node = at
        return node

    def find(self, method, target):
        path = target.split("?")[0]
        for pattern, template, item in self.routes:
            if pattern.fullmatch(path):
                return template, item.get("get" if method == "HEAD" else method.lower())
        return None, None

    def check(self, method, target, reply):
        """Fails with AssertionError where the reply is not what the document says."""
        where = f"{method} {target} -> {reply!r}"
        kind = (reply.header("Content-Type") or "").split(";")[0]
        if reply.status >= 400 and method != "HEAD":
            assert kind == "application/problem+json", where
            self.matches(self.document["components"]["schemas"]["Problem"], reply.json(), where)
        template, operation = self.find(method, target)
        if operation is None:
            assert reply.status >= 400 or template is None, where
            return
        self.used.add((method, template, reply.status))
        if reply.status == 304 or reply.status in ANYWHERE:
            return
        documented = operation["responses"].get(str(reply.status))
        assert documented is not None, f"undocumented status: {where}"
        content = self._resolve(documented).get("content", {})
        if not content or method == "HEAD":  # a body that the document does not mention is none
            assert reply.body == b"", where
            return
        assert kind in content, f"undocumented type {kind}: {where}"
        schema = content[kind].get("schema", {})
        if kind == "application/x-ndjson":
            for line in reply.lines():
                self.matches(schema, line, where)
        elif kind.endswith("json"):
            self.matches(schema, reply.json(), where)

    def matches(self, schema, value, where):
        schema = self._resolve(schema)
        for word, want in schema.items():
            if word in IGNORED or word in ("properties", "required", "additionalProperties", "items"):
                continue
            getattr(self, "_" + word)(want, value, where)
        if isinstance(value, dict):
            self._members(schema, value, where)
        if isinstance(value, list) and "items" in schema:
            for element in value:
                self.matches(schema["items"], element, where)

    def _members(self, schema, value, where):
        known = schema.get("properties", {})
        missing = [name for name in schema.get("required", []) if name not in value]
        assert not missing, f"{missing} missing: {where}"
        rest = schema.get("additionalProperties", True)
        for name, member in value.items():
            if name in known:
                self.matches(known[name], member, where)
            else:
                assert rest is not False, f"unknown member {name}: {where}"
                if isinstance(rest, dict):
                    self.matches(rest, member, where)

    @staticmethod
    def _type(want, value, where):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = number and (want == "number" or isinstance(value, int)) if want in ("number", "integer") \
            else isinstance(value, TYPES[want])
        assert fits, f"{value!r} is not of type {want}: {where}"

    @staticmethod
    def _enum(want, value, where):
        assert value in want, f"{value!r} is not one of the enumeration: {where}"

    @staticmethod
    def _minimum(want, value, where):
        assert value >= want, f"{value!r} < {want}: {where}"

    @staticmethod
    def _maximum(want, value, where):
        assert value <= want, f"{value!r} > {want}: {where}"

    @staticmethod
    def _minItems(want, value, where):
        assert len(value) >= want, f"fewer than {want}: {where}"

    @staticmethod
    def _maxItems(want, value, where):
        assert len(value) <= want, f"more than {want}: {where}"

    @staticmethod
    def _maxLength(want, value, where):
        assert len(value) <= want, f"longer than {want}: {where}"

    def _oneOf(self, want, value, where):
        fits = 0
        for schema in want:
            try:
                self.matches(schema, value, where)
                fits += 1
            except AssertionError:
                pass
        # A JSON number is of both "number" and "integer"; the document never lists both.
        assert fits == 1, f"{value!r} fits {fits} of oneOf: {where}"
