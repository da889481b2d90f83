"""JSON of any kind costs little, and raises one error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spnhub.bounded_json import DEPTH, JsonError, loads


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested deeper than 64"),
        ("[" * 900 + "]" * 900, "nested deeper than 64"),
        ('{"a":' * 65 + "[1]" + "}" * 65, "nested deeper than 64"),
        ("5" * 5000, "a number of 5000 digits"),
        ("-" + "5" * 65, "a number of 66 digits"),
        ("[" + "[]," * 1_000_000 + "1]", "more than 1000000 parts"),
        ("NaN", "holds NaN"),
        ("-Infinity", "holds -Infinity"),
        (b'"\xff"', "not UTF-8"),
        ("", "Expecting value"),
        ('{"a":1}{', "Extra data"),
    ],
)
def test_what_is_refused(text: str | bytes, message: str) -> None:
    """By name, and as one kind of error."""
    with pytest.raises(JsonError, match=message):
        loads(text)


def test_what_is_taken() -> None:
    """At the bounds everything is as the standard library reads it."""
    assert loads("[" * (DEPTH - 1) + "[1]" + "]" * (DEPTH - 1))
    assert loads("9" * 64) == int("9" * 64)
    # A run of digits that is no number.
    assert loads(f'{{"a": "{"7" * 5000}", "b": -1, "c": 1.5e3}}') == {"a": "7" * 5000, "b": -1, "c": 1500.0}
    assert loads(b'\xef\xbb\xbf{"a": null}') == {"a": None}


@given(st.one_of(st.binary(max_size=200), st.text(alphabet='[]{}":,0123456789eE+-.\\u truefalsn', max_size=200)))
def test_nothing_else_is_raised(text: str | bytes) -> None:
    """Whatever the text is."""
    try:
        loads(text)
    except JsonError as error:
        assert str(error)
