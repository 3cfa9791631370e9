"""codes_test.py: every problem code that the contract lists was answered by a real server in one of the other tests, which
leave what they saw in BUILD/tests/http/codes; CTest runs this file behind them. What no request can bring about is named here
with the unit test that produces it."""

import re

from harness import CODES, SANITIZED, TREE, Server, TestCase, main

# Handlers turn a broken promise of a folder below into it; a server that does not break any never sends it.
ELSEWHERE = {"internal": ("tests/unit/api_problem_test.c", r'\{EMB_EINVAL, true, "internal"\}')}
if SANITIZED:  # a limit of the address space leaves no room for the sanitizer's own
    ELSEWHERE["out_of_memory"] = ("tests/unit/api_handle_test.c", r'CHECK_STR\(rp\.problem_code, "out_of_memory"\)')


class Codes(TestCase):
    def test_all_were_seen(self):
        with Server() as s:
            document = s.get("/openapi.json").json()
        listed = set(document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"])
        here = {p.stem for p in TREE.glob("tests/http/*_test.py")} - {"codes_test"}
        records = {p.stem: set(p.read_text().split()) for p in CODES.glob("*.txt")}
        self.assertEqual(here - set(records), set(), "run the other HTTP tests first: ctest -L http")
        seen = set().union(*(records[name] for name in here))
        self.assertEqual(seen - listed, set(), "answered, but not in the contract")
        self.assertEqual(listed - seen - set(ELSEWHERE), set(), "in the contract, but no test has seen it")
        for code, (file, pattern) in ELSEWHERE.items():
            self.assertNotIn(code, seen, f"no longer an exception: {code}")
            self.assertRegex((TREE / file).read_text(), re.compile(pattern), f"{file} does not produce {code}")


if __name__ == "__main__":
    main(__file__)
