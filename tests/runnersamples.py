"""What runners leave and print: real runs of pytest 9, unittest of 3.11, node 20, vitest 4, jest 30 and cargo 1.95, cut
short; go's is written after its documentation.
"""

from __future__ import annotations

import json

from graph.values import Runner

ROOT = "/workspace/checkout"
JUNIT = """<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest">
<testcase classname="" name="tests.sub.test_b" file="tests/sub/test_b.py"><error message="collection failure">E</error></testcase>
<testcase classname="test_top" name="test_t" file="test_top.py" line="0" />
<testcase classname="tests.test_a.TestK.TestInner" name="test_in" file="tests/test_a.py" line="3" />
<testcase classname="tests.test_a.TestK" name="test_m" file="tests/base.py"><failure message="x - y">E</failure></testcase>
<testcase classname="tests.test_a" name="test_p[a/b.c]" file="tests/test_a.py" line="5" />
<testcase classname="tests.test_a" name="test_s" file="tests/test_a.py"><skipped type="pytest.skip" message="no" /></testcase>
<testcase classname="tests.test_a" name="test_xf" file="tests/test_a.py"><skipped type="pytest.xfail" message="" /></testcase>
<testcase classname="tests.test_a" name="test_err" file="tests/test_a.py"><error message="failed on setup with &quot;E&quot;" /></testcase>
<testcase classname="tests.test_a" name="test_td" file="tests/test_a.py" />
<testcase classname="tests.test_a" name="test_td" file="tests/test_a.py"><error message="failed on teardown with E" /></testcase>
<testcase classname="README.md" name="README.md" file="README.md" />
</testsuite></testsuites>"""  # noqa: E501
VITEST = {
    "success": False,
    "testResults": [
        {
            "name": f"{ROOT}/src/a.test.js",
            "status": "failed",
            "assertionResults": [
                {"ancestorTitles": ["sum"], "status": "passed", "title": "adds"},
                {"ancestorTitles": ["sum"], "status": "failed", "title": "fails"},
                {"ancestorTitles": ["sum"], "status": "skipped", "title": "later"},
                {"ancestorTitles": ["sum"], "status": "todo", "title": "todo one"},
                {"ancestorTitles": ["sum", "deep"], "status": "passed", "title": "x > y"},
                {"ancestorTitles": [], "status": "passed", "title": "top"},
            ],
        },
        {"name": f"{ROOT}/src/b.test.js", "status": "failed", "assertionResults": [], "message": "Cannot find package"},
    ],
}
NODE = "\n".join(
    json.dumps({"file": f"{ROOT}/a.test.js", **event})
    for event in (
        {"how": "start", "depth": 0, "name": "sum"},
        {"how": "start", "depth": 1, "name": "adds"},
        {"how": "pass", "depth": 1, "name": "adds"},
        {"how": "start", "depth": 1, "name": "fails"},
        {"how": "fail", "depth": 1, "name": "fails", "why": "testCodeFailure"},
        {"how": "start", "depth": 1, "name": "later"},
        {"how": "pass", "depth": 1, "name": "later", "skip": True},
        {"how": "fail", "depth": 0, "name": "sum", "kind": "suite", "why": "subtestsFailed"},
        {"how": "start", "depth": 0, "name": "top"},
        {"how": "pass", "depth": 0, "name": "top"},
        {"how": "start", "depth": 0, "name": f"{ROOT}/b.test.js", "file": f"{ROOT}/b.test.js"},
        {"how": "fail", "depth": 0, "name": f"{ROOT}/b.test.js", "file": f"{ROOT}/b.test.js", "why": "testCodeFailure"},
    )
)
GO = "\n".join(
    [
        "# example.com/m/c [example.com/m/c.test]",
        "c/c_test.go:5:2: undefined: nothing",
        *(
            json.dumps({"Time": "2026-01-01T00:00:00Z", "Package": f"example.com/m/{package}", **event})
            for package, event in (
                ("a", {"Action": "start"}),
                ("a", {"Action": "run", "Test": "TestOne"}),
                ("a", {"Action": "output", "Test": "TestOne", "Output": "=== RUN   TestOne\n"}),
                ("a", {"Action": "output", "Test": "TestOne", "Output": "noise of a test that passes\n"}),
                ("a", {"Action": "output", "Test": "TestOne", "Output": "--- PASS: TestOne (0.00s)\n"}),
                ("a", {"Action": "pass", "Test": "TestOne", "Elapsed": 0}),
                ("a", {"Action": "output", "Test": "TestTwo/sub", "Output": "    a_test.go:9: got 1\n"}),
                ("a", {"Action": "output", "Test": "TestTwo", "Output": "--- FAIL: TestTwo (0.00s)\n"}),
                ("a", {"Action": "fail", "Test": "TestTwo/sub", "Elapsed": 0}),
                ("a", {"Action": "fail", "Test": "TestTwo", "Elapsed": 0}),
                ("a", {"Action": "skip", "Test": "TestThree", "Elapsed": 0}),
                ("a", {"Action": "output", "Output": "FAIL\texample.com/m/a\t0.002s\n"}),
                ("a", {"Action": "fail", "Elapsed": 0.002}),
                ("b", {"Action": "output", "Output": "?   \texample.com/m/b\t[no test files]\n"}),
                ("b", {"Action": "skip", "Elapsed": 0}),
                ("c", {"Action": "output", "Output": "FAIL\texample.com/m/c [build failed]\n"}),
                ("c", {"Action": "fail", "Elapsed": 0, "FailedBuild": "example.com/m/c [example.com/m/c.test]"}),
            )
        ),
        "",
    ]
)
CARGO = """\
     Running unittests src/lib.rs (target/debug/deps/demo-8348ca7a80742723)

running 4 tests
test tests::adds ... ok
test tests::later ... ignored, slow
test tests::fails ... FAILED
test tests::panics - should panic ... ok

failures:

---- tests::fails stdout ----
said

failures:
    tests::fails

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.12s

error: test failed, to rerun pass `--lib`
     Running unittests src/main.rs (target/debug/deps/demo-dbce29200f970038)

running 1 test
test tests::adds ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests demo

running 1 test
test src/lib.rs - add (line 2) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

error: 1 target failed:
    `--lib`
"""
UNITTEST = """\
test_doc (test_a.A.test_doc)
Says what it does. ... ok
test_prints (test_a.A.test_prints) ... noise
ok
test_skip (test_a.A.test_skip) ... skipped 'why'
test_subs (test_a.A.test_subs) ... \n  test_subs (test_a.A.test_subs) (i=1) ... FAIL
test_us (test_a.A.test_us) ... unexpected success
test_x (test_a.A.test_x) ... ERROR
test_xf (test_a.A.test_xf) ... expected failure

======================================================================
ERROR: test_x (test_a.A.test_x)
----------------------------------------------------------------------
======================================================================
FAIL: test_subs (test_a.A.test_subs) (i=1)
----------------------------------------------------------------------
======================================================================
UNEXPECTED SUCCESS: test_us (test_a.A.test_us)
----------------------------------------------------------------------
Ran 7 tests in 0.001s

FAILED (failures=1, errors=1, skipped=1, expected failures=1, unexpected successes=1)
"""


SAMPLES: dict[str, tuple[Runner, bytes]] = {
    "pytest": ("pytest", JUNIT.encode()),
    "vitest": ("vitest", json.dumps(VITEST).encode()),
    "node": ("node", NODE.encode()),
    "go": ("go", GO.encode()),
}
HOSTILE = {
    "deep JSON": b"[" * 200_000,
    "deep XML": b"<a>" * 200_000,
    "deep tests": b"\n".join(b'{"how":"start","name":"a","depth":%d}' % at for at in range(2000)),
    "endless depth": b'{"how":"start","name":"a","depth":1e999}',
    "huge number": b'{"testResults":' + b"9" * 10_000 + b"}",
    "wrong shapes": b'{"testResults":[{"name":1,"status":"failed","assertionResults":[{"title":[]}]}]}',
    "a lone surrogate": b'{"testResults":[{"name":"\\ud800","status":"failed","assertionResults":[]}]}',
    "nothing": b"",
    "zeroes": bytes(1000),
}
