"""`.threadwright.toml`: what may stand in it, and on which line it is said to be wrong."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pathspec import PathSpec

from graph.errors import BadInput
from graph.project import STEP_WORD, TABLES, Checks, Models, Project, Service, Setup, Timeouts
from graph.projectfile import EXAMPLE, parse, reference
from integrations.checkpoint_values import serializer


def problems(text: str) -> list[str]:
    """What `parse` says, without the file's name; nothing when the text is all right."""
    try:
        parse(text)
    except BadInput as exc:
        return [line.removeprefix(".threadwright.toml, ") for line in str(exc).splitlines()]
    return []


def problem(text: str) -> str:
    (only,) = problems(text)
    return only


def keys(model: type[Any]) -> list[str]:
    return [key for key in model.model_fields if (model, key) != (Service, "name")]


# ---- what may stand in it


def test_an_empty_file_says_nothing() -> None:
    assert parse("") == Project()
    assert parse("# later\n") == Project()


def test_the_example_is_read_as_it_is_meant() -> None:
    assert parse(EXAMPLE) == Project(
        image="registry.example.com/acme/api-checks:7",
        plan="ask",
        on_approval="ready",
        second_person=True,
        protected_paths=("migrations/**", "LICENSE"),
        setup=Setup(commands=("npm ci", "make stubs"), inputs=("proto/**/*.proto",)),
        services=(
            Service(name="cache", start="redis-server --port 6379 --save ''", ready="redis-cli ping", seconds=20),
        ),
        checks=Checks(
            format="npx prettier --write .",
            lint="npx eslint .",
            types="",
            test="npm run build\nnpm test\n",
            test_step="npx jest {tests}",
        ),
        limits=Timeouts(command_timeout=90, setup_timeout=15 * 60, test_timeout=90 * 60),
        models=Models(plan="gpt-5", implement="gpt-5-mini", review="gpt-5"),
    )


def test_the_example_uses_every_key() -> None:
    data = tomllib.loads(EXAMPLE)
    assert set(data) == set(keys(Project))
    for name, model in TABLES.items():
        table = data[name]["cache"] if name == "services" else data[name]
        assert list(table) == keys(model), name


def test_the_reference_has_a_sentence_for_every_key() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", reference(), re.MULTILINE)
    expected = [key for model in (Project, *TABLES.values()) for key in keys(model)]
    assert [row[0] for row in rows] == [key for key in expected if key not in TABLES]
    assert all(row[2].endswith(".") and row[2][0] in "`ABCDEFGHIJKLMNOPQRSTUVWXYZ" for row in rows)


def test_every_field_that_is_a_table_is_known_as_one() -> None:
    tables = {name for name, field in Project.model_fields.items() if "graph.project" in repr(field.annotation)}
    assert tables == set(TABLES)


def test_no_set_up_is_something_else_than_a_set_up_that_is_not_named() -> None:
    assert parse("[setup]\ncommands = []").setup.commands == ()
    assert parse("[setup]").setup.commands is None


def test_a_check_that_is_turned_off_is_something_else_than_one_that_is_not_named() -> None:
    checks = parse('[checks]\nlint = ""').checks
    assert checks.lint == ""
    assert checks.types is None


def test_a_command_may_have_several_lines() -> None:
    assert parse("[checks]\r\ntest = '''\r\nmake\r\n\tmake test'''").checks.test == "make\n\tmake test"


@pytest.mark.parametrize("value", [True, False])
def test_a_second_person_may_be_wanted_or_not(value: bool) -> None:
    assert parse(f"second_person = {str(value).lower()}").second_person is value


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90), ("0.5", 0.5), ('"90s"', 90), ('"40m"', 2400), ('"1h30m"', 5400), ('"24h"', 86_400), ("86400", 86_400)],
)
def test_a_time_is_a_number_of_seconds_or_a_duration(written: str, seconds: float) -> None:
    assert parse(f"[limits]\ntest_timeout = {written}").limits.test_timeout == seconds


@pytest.mark.parametrize(
    "written",
    [
        "0",
        "-1",
        "86401",
        "inf",
        "nan",
        "true",
        '""',
        '"90"',
        '"1.5h"',
        '"25h"',
        '"0s"',
        '"30m1h"',
        '" 1h"',
        '"١h"',
        "[]",
    ],
)
def test_any_other_time_is_refused_with_the_forms_that_are_valid(written: str) -> None:
    assert problem(f"[limits]\nsetup_timeout = {written}") == (
        "line 2: limits.setup_timeout: must be a number of seconds such as 90, "
        'or a text such as "90s", "40m" or "1h30m", up to 24h'
    )


def test_a_byte_order_mark_is_no_part_of_the_file() -> None:
    assert parse('\ufeffplan = "go"').plan == "go"


# ---- unknown keys


def test_an_unknown_key_is_refused_with_the_keys_of_its_table_and_the_nearest() -> None:
    assert problem('[checks]\n\ntests = "pytest"') == (
        "line 3: checks.tests: there is no such key; "
        "the keys of [checks] are format, lint, types, test, test_step (did you mean test?)"
    )


def test_a_key_after_the_wrong_header_is_told_where_it_belongs() -> None:
    assert problem('[checks]\nprotected_paths = ["a"]').endswith(
        "(protected_paths belongs at the top of the file, before the first table)"
    )
    assert problem('test = "pytest"').endswith("(test belongs under [checks])")
    assert problem('ready = "true"').endswith("(ready belongs under [services.<name>])")


def test_the_model_of_triage_is_refused_with_the_reason() -> None:
    said = problem('[models]\ntriage = "gpt-5"')
    assert "the keys of [models] are plan, implement, review" in said
    assert "before a repository is known" in said


def test_a_services_name_is_its_tables_key_and_no_key_of_its_own() -> None:
    assert problem('[services.db]\nstart = "a"\nready = "b"\nname = "x"').startswith(
        "line 4: services.db.name: there is no such key; the keys of [services.db] are start, ready, seconds"
    )


def test_a_strange_key_is_shown_so_that_it_does_nothing_to_a_terminal() -> None:
    said = problem(f'"\\u001b[2J\\u202e{"x" * 200}" = 1')
    assert said.startswith('line 1: "\\u001b[2J\\u202exxx')
    assert "x" * 60 not in said


# ---- wrong types and values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plan = true", 'line 1: plan: must be "ask" or "go"'),
        ('on_approval = "Merge"', 'line 1: on_approval: must be "ready", "review" or "merge"'),
        ("second_person = 1", "line 1: second_person: must be true or false, not a number"),
        ('second_person = "true"', "line 1: second_person: must be true or false, not text"),
        ("image = 3", "line 1: image: must be text in quotes, not a number"),
        ("image = true", "line 1: image: must be text in quotes, not true"),
        ("image = 1979-05-27", "line 1: image: must be text in quotes, not a date or a time"),
        (
            'protected_paths = "a"',
            'line 1: protected_paths: must be a list of texts, such as ["one", "two"], not text',
        ),
        ("setup = []", "line 1: setup: must be a table, not a list"),
        ("[setup]\ncommands = {}", "line 2: setup.commands: must be a list of texts, such as "),
        ("[services]\ndb = 'x'", "line 2: services.db: must be a table, not text"),
        ("[[services]]\nname = 'db'", "line 1: services: must be tables such as [services.db], not a list"),
        ("services = 1", "line 1: services: must be tables such as [services.db], not a number"),
        (
            "[services.db]\nstart='a'\nready='b'\nseconds='9'",
            "line 4: services.db.seconds: must be a number of seconds, not text",
        ),
        ("[checks]\ntest = ['a']", "line 2: checks.test: must be text in quotes, not a list"),
    ],
)
def test_a_wrong_type_is_refused_with_the_right_one(text: str, said: str) -> None:
    assert problem(text).startswith(said)


@pytest.mark.parametrize("seconds", ["0", "-1", "601", "inf", "nan"])
def test_a_service_has_at_most_ten_minutes_to_be_ready(seconds: str) -> None:
    said = problem(f"[services.db]\nstart = 'a'\nready = 'b'\nseconds = {seconds}")
    assert said == "line 4: services.db.seconds: must be a number of seconds above 0 and at most 600"


@pytest.mark.parametrize("name", ["DB", "my_db", "-db", '"my db"', '""', "d" * 33])
def test_a_services_name_is_short_and_plain(name: str) -> None:
    assert "a service's name has" in problem(f"[services.{name}]\nstart = 'a'\nready = 'b'")


def test_there_are_at_most_eight_services() -> None:
    tables = [f"[services.s{number}]\nstart = 'a'\nready = 'b'\n" for number in range(9)]
    assert len(parse("".join(tables[:8])).services) == 8
    assert problem("".join(tables)) == "line 1: services: there may be at most 8, and there are 9"


def test_there_are_at_most_twenty_set_up_commands() -> None:
    assert len(parse(f"[setup]\ncommands = {['a'] * 20}").setup.commands or ()) == 20
    assert problem(f"[setup]\ncommands = {['a'] * 21}").endswith("there may be at most 20, and there are 21")


@pytest.mark.parametrize(
    "text",
    [
        "[setup]\ncommands = ['  ']",
        "[services.db]\nready = 'b'\nstart = ''",
        "[services.db]\nstart = 'a'\nready = \"\\n\"",
        "[checks]\nlint = ' '",
    ],
)
def test_a_command_that_is_blank_is_refused(text: str) -> None:
    assert "must be a command" in problem(text)


@pytest.mark.parametrize("escape", ["\\u0000", "\\u001b", "\\u007f", "\\r"])
def test_a_command_holds_no_control_characters(escape: str) -> None:
    for text in (f'[checks]\ntest = "a{escape}b"', f'[setup]\ncommands = ["a{escape}b"]'):
        assert "control characters" in problem(text)


@pytest.mark.parametrize("image", ["--privileged", "a b", "a;b", "/etc", "x" * 256])
def test_an_image_is_no_option_of_the_engine(image: str) -> None:
    assert "must be the name of an image" in problem(f'image = "{image}"')


@pytest.mark.parametrize("name", ["", "-x", "a b", "x" * 101])
def test_a_model_has_a_name(name: str) -> None:
    assert "must be the name of a model" in problem(f'[models]\nplan = "{name}"')


# ---- {files} and {tests}


@pytest.mark.parametrize(
    "command",
    [
        "pytest {tests}",
        "run {files} -- {tests}",
        "echo ${HOME} ${files}",
        "cp a.{py,txt} b",
        "echo {1..3} {} { :; }",
        "awk '{ print }'",
        "git diff --name-only @{upstream}",
        "curl -w '%{http_code}' localhost",
        "ruby -e 'puts \"#{x}\"'",
        "echo \\{word}",
        "f() { go list -f '{{.Dir}}'; }",
    ],
)
def test_other_braces_of_a_shell_are_left_alone(command: str) -> None:
    assert parse(f"[checks]\ntest_step = {json.dumps(command)}").checks.test_step == command


@pytest.mark.parametrize("word", ["{file}", "{test}", "{FILES}", "{tests_}", "{x1}"])
def test_another_word_in_braces_is_refused_with_the_two_that_are_known(word: str) -> None:
    said = problem(f"[checks]\ntest_step = 'pytest {word} {{tests}}'")
    assert said.startswith(f"line 2: checks.test_step: {word} is not filled in: only {{files}} and {{tests}} are.")


def test_the_words_are_refused_where_nobody_fills_them_in() -> None:
    assert problem("[checks]\nlint = 'ruff {files}'") == "line 2: checks.lint: {files} is filled in in test_step only"


def test_what_is_filled_in_is_never_a_variable_of_the_shell() -> None:
    assert STEP_WORD.sub("X", "a {files} ${files} \\{tests} {tests}{files}") == "a X ${files} \\{tests} XX"


# ---- paths

GLOBS = ["src/**", "*.sql", "a/b/", "CODEOWNERS", "docs/?.md", "a..b", ".env", "**"]
NO_GLOBS = ["/etc", "..", "../a", "a/../b", "./a", "a//b", "/", "", "!a", "#a", "a[b]", "a\\\\", " a", "a ", "a\\nb"]


@pytest.mark.parametrize("key", ["protected_paths", "setup.inputs"])
@pytest.mark.parametrize("glob", GLOBS)
def test_a_pattern_counts_from_the_repositorys_root(key: str, glob: str) -> None:
    assert problems(f'{key} = ["{glob}"]') == []


@pytest.mark.parametrize("key", ["protected_paths", "setup.inputs"])
@pytest.mark.parametrize("glob", [*NO_GLOBS, "x" * 201])
def test_a_pattern_that_leads_out_takes_away_or_matches_nothing_is_refused(key: str, glob: str) -> None:
    assert problem(f'{key} = ["{glob}"]').startswith(f"line 1: {key} item 1: must")


def test_a_repository_never_takes_a_protected_path_from_the_installation() -> None:
    assert "can add paths and take none away" in problem('protected_paths = ["!CODEOWNERS"]')
    # Control: let through, the pattern would do just that.
    assert PathSpec.from_lines("gitignore", ["CODEOWNERS"]).match_file("CODEOWNERS")
    assert not PathSpec.from_lines("gitignore", ["CODEOWNERS", "!CODEOWNERS"]).match_file("CODEOWNERS")


@given(st.text(st.sampled_from("ab*?/.[]!#\\ -_^Z"), max_size=12))
def test_a_pattern_that_is_let_through_is_one_for_the_matcher_too(glob: str) -> None:
    """In lower case as well: so the tree's policy compares, and `[A-_]` would become a bad range."""
    if problems(f"protected_paths = {json.dumps([glob])}"):
        return
    for text in (glob, glob.lower()):
        (pattern,) = PathSpec.from_lines("gitignore", [text]).patterns
        assert pattern.include is True


# ---- lines


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("plan = 1", 1, "plan"),
        ("# a comment\n\n  # and another\nplan = 1", 4, "plan"),
        ("plan = 'go'\r\n\r\n[checks]\r\nlint = ''\r\ntests = ''\r\n", 5, "checks.tests"),
        ("[setup]\ncommands = [\n  'a', # ]\n\n  # 'b',\n  'c', 3,\n]", 6, "setup.commands item 3"),
        ("[setup]\r\ncommands = [\r\n'a',\r\n[\r\n1],\r\n]", 4, "setup.commands item 2"),
        ("checks.lint = 'x'\nchecks . 'tests' = 'x'", 2, "checks.tests"),
        ("[checks]\ntest = '''\n[checks]\ntests = 1\n'''\n\ntests = 1", 7, "checks.tests"),
        ('[checks]\ntest = """a\\"""" # """\nlint = 1', 3, "checks.lint"),
        ('[checks]\ntest = """\n"""""\nlint = 1', 4, "checks.lint"),
        ("[checks]\nlint = '''''a'''\ntest = \"\"\ntypes = 1", 4, "checks.types"),
        ("[checks]\n# \"\n# '''\n\"li\\u006et\" = 1", 4, "checks.lint"),
        ("[services]\na = {start = 'x', ready = 'y'}\nb = {start = 'x', ready = ''}", 3, "services.b.ready"),
        ("plan = 'go'\nservices = { db = { start = [ '}' ], ready = 'x' } }", 2, "services.db.start"),
        ("[services.a]\nstart = 'x'\nready = 'y'\n\n[services.b]\nstart = 'x'\n", 5, "services.b.ready"),
        ("[services]\na.start = 'x'\na.seconds = 3\n", 2, "services.a.ready"),
        ("[services.'a']\nready = 'y'\nstart = '''\nx\n'''\nseconds = 0", 6, "services.a.seconds"),
        ("[services.a.b]\n[services.a]\nstart = 'x'\nready = 'y'", 1, "services.a.b"),
        ("[ checks ]\n[ limits ] # [models]\ntest_timeout = 1e9", 3, "limits.test_timeout"),
        ("models = {plan = 'a,b]', review = 'c'}\n", 1, "models.plan"),
        ("protected_paths = ['a',\n'b',\n\n'/c']", 4, "protected_paths item 3"),
        ("[setup]\ninputs = [1.5, 1979-05-27 07:32:00,\n{ a = [1] }]", 2, "setup.inputs item 1"),
        ("x = 1979-05-27 07:32:00.5\n\nplan = 'go'", 1, "x"),
    ],
)
def test_a_problem_is_on_the_line_on_which_its_key_or_item_is_written(text: str, line: int, key: str) -> None:
    assert problems(text)[0].startswith(f"line {line}: {key}: ")


def test_every_problem_is_told_in_the_order_of_the_file() -> None:
    said = problems("[models]\ntriage = 'x'\n\n[limits]\ntest_timeout = 0\n\n[services.db]\n[checks]\ntest = 1\n")
    assert [line.split(": ")[:2] for line in said] == [
        ["line 2", "models.triage"],
        ["line 5", "limits.test_timeout"],
        ["line 7", "services.db.start"],
        ["line 7", "services.db.ready"],
        ["line 9", "checks.test"],
    ]


def test_a_file_full_of_problems_is_told_in_a_message_that_can_be_read() -> None:
    said = problems("\n".join(f"k{number} = 1" for number in range(2000)))
    assert len(said) == 101
    assert said[99].startswith("line 100: k99: ")
    assert said[100] == ".threadwright.toml: and 1900 more"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_wherever_an_unknown_key_is_written_its_line_is_named(end: str) -> None:
    lines = EXAMPLE.splitlines()
    named = 0
    for number in range(len(lines) + 1):
        text = end.join([*lines[:number], "nonsense = 1", *lines[number:]])
        try:
            is_key = "nonsense" in {key for table in _tables(tomllib.loads(text)) for key in table}
        except tomllib.TOMLDecodeError:
            assert problem(text).startswith(f"line {number + 1}: this is not TOML: ")
            continue
        if is_key:
            assert re.match(rf"line {number + 1}: (\w+\.)*nonsense: there is no such key; ", problem(text))
            named += 1
    assert named > 30


def _tables(value: Any) -> list[dict[str, Any]]:
    return [value, *(t for v in value.values() for t in _tables(v))] if isinstance(value, dict) else []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plan = 'go'\nplan go", "line 2: this is not TOML: "),
        ("a = 1\n\nb = [1,\n\n", "line 3: this is not TOML: "),
        ("[checks]\ntest = '''\nx\n\n", "line 3: this is not TOML: "),
        ("a = 1\r\n[checks\r\n", "line 2: this is not TOML: "),
        ("plan = 'go'\nplan = 'ask'", "line 2: this is not TOML: this key or table is there already"),
        ("[checks]\n\n[checks]", "line 3: this is not TOML: this key or table is there already"),
        ("plan = 'go'\nx = '\ud800'", "line 2: is not UTF-8"),
        ("x = 2026-02-30", "line 1: this is not TOML: "),
    ],
)
def test_what_is_no_toml_is_refused_with_the_line(text: str, said: str) -> None:
    assert problem(text).startswith(said)


# ---- hostile text


def test_a_file_of_more_than_64_kib_is_refused() -> None:
    assert parse("#" * (64 << 10)) == Project()
    assert problem("#" * ((64 << 10) + 1)) == ".threadwright.toml: is 65,537 bytes long; at most 65,536 are read"
    assert problem("#" + "é" * (32 << 10)) == ".threadwright.toml: is 65,537 bytes long; at most 65,536 are read"


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 30_000,
        "x = " + "[" * 17 + "]" * 17,
        "x = " + "{a = " * 10_000,
        "a" + ".a" * 30_000 + " = 1",
        "[a" + " . 'a'" * 9_000 + "]",
        "x = " + "1" * 60_000,
        "y" * 60_000 + " = 1",
    ],
)
def test_what_would_keep_or_break_the_parser_is_refused_before_it(text: str) -> None:
    assert problem(f"\n{text}").startswith("line 2: is nested deeper, or has a longer word,")


@pytest.mark.parametrize("text", ["x = " + "[" * 30_000, "x = 1" + "1" * 5_000])
def test_without_the_bounds_the_parser_would_break(text: str) -> None:
    """Control of "never anything but BadInput": these two get past tomllib's own errors."""
    with pytest.raises((RecursionError, ValueError)) as raised:
        tomllib.loads(text)
    assert not isinstance(raised.value, tomllib.TOMLDecodeError)


LINES = st.sampled_from(
    [*EXAMPLE.splitlines(keepends=True), "x = [\n", "]\n", '"""', "'''", "\r\n", "{", "a.'b' = 1,", "}"]
)


@given(st.one_of(st.text(), st.lists(LINES).map("".join), st.text(st.sampled_from("a.='\"\\[]{},#\n\r \t1-:T"))))
@example("\x00")
@example("a = 1\r")
@example('""""""')
@example("a = ''''''")
@example("a.b = 1\n[a]")
@example("[[a]]\n[a.b]")
@example("'' = 1")
@example("x = 0000-01-01")
@example("x = 1" + "0" * 255)
@example("[limits]\ntest_timeout = 0x" + "f" * 254)
@example("[services.a]\nseconds = 0x" + "f" * 254)
def test_any_text_is_read_or_refused_as_bad_input(text: str) -> None:
    for line in problems(text):
        assert re.match(r"line \d+: |\.threadwright\.toml: ", line)
        assert line.isprintable()


@given(st.integers(0, len(EXAMPLE)), st.integers(0, 12), st.text(st.characters(codec="utf-8"), max_size=4))
def test_a_damaged_example_is_read_or_refused_as_bad_input(at: int, cut: int, put: str) -> None:
    problems(EXAMPLE[:at] + put + EXAMPLE[at + cut :])


# ---- there and back

COMMANDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20).map(
    lambda text: re.sub(r"[{}]", "", f"make {text}\n\tend")
)
CHECKS = st.none() | st.just("") | COMMANDS
NAMES = st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9./:@+-]{0,20}", fullmatch=True)
SECONDS = st.none() | st.floats(0.001, 86_400) | st.integers(1, 86_400)
SERVICES = st.lists(
    st.builds(
        Service,
        name=st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True),
        start=COMMANDS,
        ready=COMMANDS,
        seconds=st.floats(0.001, 600),
    ),
    max_size=8,
    unique_by=lambda service: service.name,
).map(tuple)
PATTERNS = st.lists(st.sampled_from(GLOBS), max_size=3).map(tuple)
PROJECTS = st.builds(
    Project,
    image=st.sampled_from(["", "python:3.12"]),
    plan=st.sampled_from([None, "ask", "go"]),
    on_approval=st.sampled_from([None, "ready", "review", "merge"]),
    second_person=st.sampled_from([None, True, False]),
    protected_paths=PATTERNS,
    setup=st.builds(Setup, commands=st.none() | st.lists(COMMANDS, max_size=20).map(tuple), inputs=PATTERNS),
    services=SERVICES,
    checks=st.builds(
        Checks,
        format=CHECKS,
        lint=CHECKS,
        types=CHECKS,
        test=CHECKS,
        test_step=CHECKS.map(lambda c: c and c + " {tests}"),
    ),
    limits=st.builds(Timeouts, command_timeout=SECONDS, setup_timeout=SECONDS, test_timeout=SECONDS),
    models=st.builds(Models, plan=NAMES, implement=NAMES, review=NAMES),
)


def rendered(value: Project) -> str:
    data = value.model_dump(exclude_none=True)
    data["services"] = {service.pop("name"): service for service in data["services"]}
    tables = {key: data.pop(key) for key in TABLES}
    tables |= {f"services.{name}": service for name, service in tables.pop("services").items()}
    lines = _entries(data)
    for name, table in tables.items():
        lines += [f"[{name}]", *_entries(table)]
    return "\n".join(lines)


def _entries(table: dict[str, Any]) -> list[str]:
    # JSON's strings, lists, numbers and booleans are TOML's, but for escaped surrogates.
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]


@given(PROJECTS)
def test_what_is_written_down_is_read_back_the_same(value: Project) -> None:
    assert parse(rendered(value)) == value


@given(PROJECTS)
def test_a_checkpoint_gives_a_project_back_the_same(value: Project) -> None:
    serde = serializer([Project])
    back = serde.loads_typed(serde.dumps_typed(value))
    assert isinstance(back, Project)
    assert back == value
    assert isinstance(back.services, tuple)
