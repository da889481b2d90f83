"""Schedules against a direct statement of what a cron expression means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spnhub.clusters.schedule import Schedule, ScheduleError, is_on


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment", "following"),
    [
        ("0 22 ? * SUN-THU *", "2026-11-19T21:59:59", "2026-11-19T22:00"),  # a Thursday
        ("0 22 ? * SUN-THU *", "2026-11-19T22:00", "2026-11-22T22:00"),  # over Friday and Saturday
        ("0 22 ? * 1-5 *", "2026-11-19T22:00", "2026-11-22T22:00"),
        ("30 6 ? * FRI-MON *", "2026-11-23T06:30", "2026-11-27T06:30"),
        ("*/15 8-10/2 * * ? *", "2026-11-22T08:45", "2026-11-22T10:00"),
        ("50/4 * * * ? *", "2026-11-22T08:54", "2026-11-22T08:58"),
        ("0 22-3/2 * * ? *", "2026-11-22T22:00", "2026-11-23T00:00"),
        ("0 0 29 FEB ? *", "2026-11-22T00:00", "2028-02-29T00:00"),
        ("0 0 31 nov-jan ? *", "2026-11-22T00:00", "2026-12-31T00:00"),
        ("5,35 12 1,15 * ? 2026,2028", "2026-12-15T12:35", "2028-01-01T12:05"),
        ("0 12 * * * *", "2026-11-22T12:00", "2026-11-23T12:00"),
        ("0 0 29 2 ? 2096", "2026-11-22T12:00", "2096-02-29T00:00"),
        ("5-5 5-5 * * ? *", "2026-11-22T12:00", "2026-11-23T05:05"),
    ],
)
def test_next_after(text: str, moment: str, following: str) -> None:
    """The next moment of the forms that occur."""
    assert Schedule.parse(text).next_after(at(moment)) == at(following)


def test_time_zone() -> None:
    """Schedules are in UTC, whatever zone a moment is told in; what comes back is in UTC."""
    moment = datetime(2026, 11, 22, 23, 30, tzinfo=timezone(timedelta(hours=9)))
    found = Schedule.parse("0 15 * * ? *").next_after(moment)
    assert (found, found and found.tzinfo) == (at("2026-11-22T15:00"), UTC)


@pytest.mark.parametrize("text", ["0 0 1 1 ? 2020", "0 0 29 2 ? 2026-2027"])
def test_never_again(text: str) -> None:
    """A schedule that is over has no next moment."""
    assert Schedule.parse(text).next_after(at("2026-11-22T00:00")) is None


def test_never_before() -> None:
    """A schedule that has not begun has no last moment."""
    assert Schedule.parse("0 0 1 1 ? 2030").last_until(at("2026-11-22T00:00")) is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "schedule"),
        ("0 22 ? * SUN-THU", "schedule"),
        ("0 0 22 ? * SUN-THU *", "schedule"),
        ("60 22 ? * SUN *", "minute"),
        ("MON 22 ? * SUN *", "minute"),
        ("0 24 ? * SUN *", "hour"),
        ("0 ? ? * SUN *", "hour"),
        ("0 22 0 * ? *", "day of month"),
        ("0 22 L * ? *", "day of month"),
        ("0 22 31 FEB,APR ? *", "day of month"),
        ("0 22 * 13 ? *", "month"),
        ("0 22 * JUNE ? *", "month"),
        ("0 22 ? * 0 *", "day of week"),
        ("0 22 ? * 2#1 *", "day of week"),
        ("0 22 ? * SUN- *", "day of week"),
        ("0 22 ? * ? *", "day of week"),
        ("0 22 1 * SUN *", "day of week"),
        ("0 22 ? * SUN 1969", "year"),
        ("0 22 ? * SUN 2030-2028", "year"),
        ("*/0 22 ? * SUN *", "minute"),
        ("1,,2 22 ? * SUN *", "minute"),
        ("@daily 0 ? * * *", "minute"),
        ("-1 22 ? * SUN *", "minute"),
        ("H 22 ? * SUN *", "minute"),
    ],
)
def test_faults_name_the_field(text: str, field: str) -> None:
    """A faulty schedule is refused with the field's name."""
    with pytest.raises(ScheduleError) as caught:
        Schedule.parse(text)
    assert (caught.value.field, str(caught.value).startswith(field)) == (field, True)


BOUNDS = {"minute": (0, 59), "hour": (0, 23), "dom": (1, 31), "month": (1, 12), "dow": (1, 7)}


@st.composite
def fields(draw: st.DrawFn, name: str) -> tuple[str, frozenset[int]]:
    """The text of a field, and what it means said in another way: by walking round the field."""
    first, last = BOUNDS[name]
    size = last - first + 1
    text, meaning = [], set[int]()
    for _ in range(draw(st.integers(1, 3))):
        step = draw(st.none() | st.integers(1, size))
        tail = "" if step is None else f"/{step}"
        start, end = draw(st.integers(first, last)), draw(st.integers(first, last))
        match draw(st.sampled_from(["*", "value", "range"])):
            case "*":
                text.append("*" + tail)
                walk = list(range(first, last + 1))
            case "value":
                text.append(f"{start}{tail}")
                walk = [start] if step is None else list(range(start, last + 1))
            case _:
                text.append(f"{start}-{end}{tail}")
                walk = [first + (start - first + offset) % size for offset in range((end - start) % size + 1)]
        meaning |= {value for index, value in enumerate(walk) if index % (step or 1) == 0}
    return ",".join(text), frozenset(meaning)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[str, dict[str, frozenset[int]]]:
    """An expression and its meaning by field; one of the two day fields says any."""
    texts, meanings = {}, {}
    for name in BOUNDS:
        texts[name], meanings[name] = draw(fields(name))
    free = draw(st.sampled_from(["dom", "dow"]))
    texts[free], meanings[free] = "?", frozenset(range(BOUNDS[free][0], BOUNDS[free][1] + 1))
    return " ".join([*texts.values(), "*"]), meanings


def stated(meaning: dict[str, frozenset[int]], moment: datetime) -> datetime | None:
    """The next moment, by trying day after day for ten years."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(3660):
        weekday = (day.weekday() + 1) % 7 + 1
        if day.day in meaning["dom"] and day.month in meaning["month"] and weekday in meaning["dow"]:
            for hour in sorted(meaning["hour"]):
                for minute in sorted(meaning["minute"]):
                    if (found := day.replace(hour=hour, minute=minute)) > moment:
                        return found
        day += timedelta(days=1)
    return None


MOMENTS = st.datetimes(datetime(1995, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC))


@given(schedules(), MOMENTS)
@pytest.mark.long
def test_next_after_is_as_stated(schedule: tuple[str, dict[str, frozenset[int]]], moment: datetime) -> None:
    """Any expression's next moment is the first that all its fields match."""
    text, meaning = schedule
    try:
        parsed = Schedule.parse(text)
    except ScheduleError as error:
        assert error.field == "day of month"
        assert stated(meaning, moment) is None
        return
    assert parsed.next_after(moment) == stated(meaning, moment)


@given(schedules(), MOMENTS)
def test_last_until_and_next_after_agree(schedule: tuple[str, dict[str, frozenset[int]]], moment: datetime) -> None:
    """From one moment of a schedule, the next one's last until is itself, and just before it the former."""
    try:
        parsed = Schedule.parse(schedule[0])
    except ScheduleError:
        return
    first = parsed.next_after(moment)
    second = parsed.next_after(first) if first is not None else None
    if first is None or second is None:
        return
    assert parsed.last_until(second) == second
    assert parsed.last_until(second - timedelta(microseconds=1)) == first


@pytest.mark.parametrize(
    ("start", "stop", "moment", "on"),
    [
        ("0 8 ? * MON-FRI *", "0 18 ? * MON-FRI *", "2026-11-20T12:00", True),
        ("0 8 ? * MON-FRI *", "0 18 ? * MON-FRI *", "2026-11-20T08:00", True),
        ("0 8 ? * MON-FRI *", "0 18 ? * MON-FRI *", "2026-11-20T18:00", False),
        ("0 8 ? * MON-FRI *", "0 18 ? * MON-FRI *", "2026-11-22T12:00", False),
        ("0 8 * * ? *", "0 8 * * ? *", "2026-11-22T12:00", True),
        ("0 8 * * ? *", None, "2026-11-22T12:00", True),
        (None, "0 8 * * ? *", "2026-11-22T12:00", False),
        ("0 8 * * ? 2030", None, "2026-11-22T12:00", None),
        (None, None, "2026-11-22T12:00", None),
    ],
)
def test_is_on(start: str | None, stop: str | None, moment: str, on: bool | None) -> None:
    """A hub that starts between startAt and stopAt knows that the service should run."""
    parsed = [Schedule.parse(text) if text is not None else None for text in (start, stop)]
    assert is_on(parsed[0], parsed[1], at(moment)) is on
