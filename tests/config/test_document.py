from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gpu_fleet.config.document import Document, DocumentError, dotted, parse
from gpu_fleet.config.validation import read
from gpu_fleet.config.wording import quoted
from gpu_fleet.scaling.policy import Policy


def errors(text: str, file: str = "policies/chat.yaml") -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read(text, file, Policy)
    return [str(problem) for problem in caught.value.problems]


def test_a_value_out_of_range_names_place_key_limit_and_value() -> None:
    text = "model: llama\nhorizontal:\n  max_step_in: 0\n"
    assert errors(text) == ["policies/chat.yaml:3:3: horizontal.max_step_in: must be at least 1 (got 0)"]


def test_every_error_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = (
        "model: llama\n"
        "horizontal:\n"
        "  max_step_in: 0\n"
        "  max_stepout: 3\n"
        "slo: {tpot_seconds: fast}\n"
        "load: {unit: watts}\n"
        "zero: [1]\n"
    )
    units = "policies/chat.yaml:6:8: load.unit: must be one of concurrency, requests_per_second (got watts)"
    assert errors(text) == [
        "policies/chat.yaml:3:3: horizontal.max_step_in: must be at least 1 (got 0)",
        "policies/chat.yaml:4:3: horizontal.max_stepout: unknown key; did you mean max_step_out?",
        "policies/chat.yaml:5:1: slo.ttft_seconds: is missing",
        "policies/chat.yaml:5:7: slo.tpot_seconds: must be a number (got fast)",
        units,
        "policies/chat.yaml:7:1: zero: must be a mapping of keys to values (got a list of 1)",
    ]


def test_an_unknown_key_without_a_similar_one_lists_the_allowed_keys() -> None:
    assert errors("model: x\nburst: {zzz: 1}\n") == [
        "policies/chat.yaml:2:9: burst.zzz: unknown key; allowed: factor, hold_seconds"
    ]


def test_all_duplicate_keys_are_reported_with_the_line_of_the_first() -> None:
    text = "model: a\nmodel: b\nslo:\n  ttft_seconds: 1\n  ttft_seconds: 2\n"
    assert errors(text) == [
        "policies/chat.yaml:2:1: model: key given twice; the first is on line 1",
        "policies/chat.yaml:5:3: ttft_seconds: key given twice; the first is on line 4",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: a\n\tb: 1\n", ["p.yaml:2:1: not YAML: a tab cannot indent; use spaces"]),
        ("slo: {a: [1\n", None),
        ("a: b: c\n", ["p.yaml:1:5: not YAML: mapping values are not allowed here"]),
        ("model: 'x\n", None),
        ("model: *nowhere\n", None),
        ("a: 1\n---\nb: 2\n", ["p.yaml:2:1: not YAML: must be one document (a second begins here)"]),
        ("", ["p.yaml:1:1: must be a mapping of keys to values (got nothing)"]),
        ("# only a comment\n", ["p.yaml:1:1: must be a mapping of keys to values (got nothing)"]),
        ("- a\n", ["p.yaml:1:1: must be a mapping of keys to values (got a list of 1)"]),
        ("just words\n", ["p.yaml:1:1: must be a mapping of keys to values (got just words)"]),
        ("a: \x00\n", None),
    ],
)
def test_text_that_is_no_mapping_is_one_clear_error(text: str, expected: list[str] | None) -> None:
    found = errors(text, "p.yaml")
    assert found == expected if expected else len(found) == 1 and found[0].startswith("p.yaml:")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("horizontal: {max_step_in: true}", "horizontal.max_step_in: must be a whole number (got true)"),
        ('horizontal: {max_step_in: "5"}', 'horizontal.max_step_in: must be a whole number (got "5")'),
        ("horizontal: {max_step_in: 2.5}", "horizontal.max_step_in: must be a whole number (got 2.5)"),
        ("learning: {enabled: yes}", "learning.enabled: must be true or false (got yes)"),
        ("learning: {half_life_seconds: .inf}", "learning.half_life_seconds: must be a finite number (got inf)"),
        ("learning: {half_life_seconds: .nan}", "learning.half_life_seconds: must be a finite number (got nan)"),
        ("learning: {half_life_seconds: null}", "learning.half_life_seconds: must be a number (got nothing)"),
        ("forecast: {confidence: 1}", "forecast.confidence: must be below 1 (got 1)"),
        ("burst: {factor: 1}", "burst.factor: must be above 1 (got 1)"),
        ("thresholds: {cpu_percent: 101}", "thresholds.cpu_percent: must be at most 100 (got 101)"),
        ("description: 2026-01-31", None),
        ("description: [a]", "description: must be a text (got a list of 1)"),
        ("cases: {a: 1}", "cases: must be a list (got a mapping)"),
        ("routing: {static_weights: {l4: 1000}}", "routing.static_weights.l4: must be at most 999 (got 1000)"),
        ("routing: {static_weights: {l4: -1}}", "routing.static_weights.l4: must be at least 0 (got -1)"),
    ],
)
def test_values_keep_their_yaml_types(line: str, expected: str | None) -> None:
    text = f"model: x\n{line}\n"
    if expected is None:
        assert read(text, "p.yaml", Policy)
    else:
        assert [error.split(": ", 1)[1] for error in errors(text, "p.yaml")] == [expected]


def test_an_error_over_several_keys_is_placed_at_the_key_that_it_names() -> None:
    assert errors("model: x\nsizing:\n  mode: slo\n") == ["policies/chat.yaml:3:3: sizing.mode: slo needs the key slo"]
    assert errors("model: x\nrouting:\n  strategy: static\n") == [
        "policies/chat.yaml:3:3: routing.strategy: static needs routing.static_weights"
    ]
    assert errors("model: x\noverload:\n  refuse: false\n  max_wait_seconds: 300\n") == [
        "policies/chat.yaml:4:3: overload.max_wait_seconds: needs overload.refuse (got 300, and refuse: false)"
    ]
    assert read("model: x\noverload:\n  max_wait_seconds: 300\n", "p.yaml", Policy).overload.refuse


def test_numbers_and_words_follow_yaml_1_2() -> None:
    data = parse("a: 010\nb: no\nc: 1e3\nd: 0x10\ne: ~\nf: 2026-01-19\n", "p.yaml").data
    assert data == {"a": 10, "b": "no", "c": 1000.0, "d": 16, "e": None, "f": "2026-01-19"}


def test_a_merged_key_counts_and_is_placed_at_its_mapping() -> None:
    text = "base: &base {max_step_in: 0}\nmodel: x\nhorizontal:\n  <<: *base\n"
    found = errors(text, "p.yaml")
    assert "p.yaml:3:1: horizontal.max_step_in: must be at least 1 (got 0)" in found
    assert any(error.startswith("p.yaml:1:1: base: unknown key") for error in found)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
        "a: " + "[" * 200 + "]" * 200,
    ],
)
def test_a_text_that_grows_without_end_is_refused(text: str) -> None:
    assert "must hold at most 20000 values in 40 levels" in errors(text)[0]


def test_an_alias_of_itself_is_refused_and_not_followed() -> None:
    assert errors("model: &a [*a]\n") == ["policies/chat.yaml:1:1: model: must be a text (got a list of 1)"]


def test_places_match_the_text() -> None:
    document = parse("a:\n  b: [1, two]\n  c:\n    - d: 3\n", "p.yaml")
    assert document.keys[("a", "b")] == (2, 3)
    assert document.keys[("a", "b", 1)] == (2, 10)
    assert document.keys[("a", "c", 0, "d")] == (4, 7)
    assert str(document.place(("a", "c", 0, "nothing", "here"))) == "p.yaml:4:7"


def test_a_long_value_is_cut_and_a_path_reads_as_typed() -> None:
    assert len(quoted("x" * 500)) == 60
    assert quoted("a\nb") == "a b"
    assert dotted(("services", "chat", "types", 0)) == "services.chat.types[0]"


scalars = st.none() | st.booleans() | st.integers(-1000, 1000) | st.text("abc: -#'\"\n\t[]{}", max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=3),
)


@given(values)
def test_what_was_written_is_read_back_and_every_value_has_a_place(value: object) -> None:
    from io import StringIO

    stream = StringIO()
    YAML().dump({"root": value}, stream)
    document = parse(stream.getvalue(), "p.yaml")
    assert document.data == {"root": value}
    lines = stream.getvalue().splitlines()
    for path, (line, column) in document.keys.items():
        assert 1 <= line <= max(1, len(lines)), path
        assert column >= 1


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_but_never_crashes(text: str) -> None:
    try:
        document = parse(text, "p.yaml")
    except DocumentError as error:
        messages = [str(problem) for problem in error.problems]
        assert messages, text
    else:
        assert isinstance(document, Document)
