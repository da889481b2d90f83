"""``startAt`` and ``stopAt``: cron expressions like ``0 22 ? * SUN-THU *``, in UTC.

Six fields: minute, hour, day of month, month, day of week, year. The form is that of Amazon EventBridge, so days of the
week are numbered from 1, Sunday, to 7, Saturday. A field holds ``*`` or a list of values, ranges (``FRI-MON`` goes
round the end) and steps (``*/15``, ``10/20``, ``8-18/2``); ``?`` says "any" for one of the two day fields. ``L``,
``W`` and ``#`` are not taken. croniter searches the calendar; it gets plain lists only, since its own reading differs:
``5-5`` is everything to it, Sunday is 0, and its faults don't name the field.

Counterparts: :mod:`spnhub.inventory` refuses what doesn't parse; the service actor asks for the next moment.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from spnhub.dataclass import dataclass

__all__ = ["Schedule", "ScheduleError", "is_on"]


class ScheduleError(ValueError):
    """Not a schedule; the text names the field."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    first: int
    last: int
    words: tuple[str, ...] = ()
    goes_round: bool = True

    @property
    def all(self) -> frozenset[int]:
        return frozenset(range(self.first, self.last + 1))

    def error(self, problem: str) -> ScheduleError:
        return ScheduleError(self.name, problem)

    def parse(self, text: str) -> frozenset[int]:
        """The values that ``text`` names.

        :raises ScheduleError: it is faulty.
        """
        return frozenset().union(*(self._term(term) for term in text.split(",")))

    def _term(self, term: str) -> frozenset[int]:
        match = _TERM.fullmatch(term)
        if match is None:
            raise self.error(f"{term!r} is none of *, a value, a range, each with or without /step")
        step = 1 if match["step"] is None else int(match["step"])
        if step == 0:
            raise self.error(f"{term!r} has a step of 0")
        if match["first"] is None:
            values = range(self.first, self.last + 1)
        else:
            first = self._value(match["first"])
            if match["last"] is not None:
                last = self._value(match["last"])
            else:
                last = first if match["step"] is None else self.last
            if first > last:
                if not self.goes_round:
                    raise self.error(f"{term!r} runs backwards")
                return frozenset([*range(first, self.last + 1), *range(self.first, last + 1)][::step])
            values = range(first, last + 1)
        return frozenset(values[::step])

    def _value(self, text: str) -> int:
        if text.isdecimal():
            value = int(text)
            if not self.first <= value <= self.last:
                raise self.error(f"{value} is not within {self.first} to {self.last}")
            return value
        if text.upper() not in self.words:
            known = f" of {self.words[0]} to {self.words[-1]}" if self.words else ""
            raise self.error(f"{text!r} is not a number{' or one' + known if known else ''}")
        return self.first + self.words.index(text.upper())


_TERM: Final = re.compile(
    r"(?:\*|(?P<first>[0-9]{1,4}|[A-Za-z]+)(?:-(?P<last>[0-9]{1,4}|[A-Za-z]+))?)(?:/(?P<step>[0-9]{1,4}))?"
)
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LONGEST: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 1, 7, _DAYS),
    _Field("year", 1970, 2099, goes_round=False),
)
_YEARS: Final = _FIELDS[-1].last - _FIELDS[-1].first
_DAY_OF_MONTH: Final = 2
_MONTH: Final = 3
_DAY_OF_WEEK: Final = 4


@dataclass(frozen=True, slots=True)
class Schedule:
    """Moments that come again, to the minute, in UTC."""

    text: str
    """As it was written."""
    cron: str
    """The same for croniter: minute, hour, day of month, month, day of week (0 Sunday), second, year."""

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read a cron expression.

        :raises ScheduleError: it is faulty (a ValueError, whose text names the field).
        """
        parts = text.split()
        if len(parts) != len(_FIELDS):
            names = ", ".join(field.name for field in _FIELDS)
            raise ScheduleError("schedule", f"has {len(parts)} fields instead of six: {names}")
        days = (parts[_DAY_OF_MONTH], parts[_DAY_OF_WEEK])
        if days == ("?", "?"):
            raise _FIELDS[_DAY_OF_WEEK].error("is ? as is the day of month: one of them must say a day, or *")
        if all(day not in {"?", "*"} for day in days):
            raise _FIELDS[_DAY_OF_WEEK].error("names days as does the day of month: one of them must be ?")
        sets = [
            field.all if part == "?" and index in {_DAY_OF_MONTH, _DAY_OF_WEEK} else field.parse(part)
            for index, (field, part) in enumerate(zip(_FIELDS, parts, strict=True))
        ]
        if min(sets[_DAY_OF_MONTH]) > max(_LONGEST[month - 1] for month in sets[_MONTH]):
            raise _FIELDS[_DAY_OF_MONTH].error("never comes in the months named")
        sets[_DAY_OF_WEEK] = frozenset(day - 1 for day in sets[_DAY_OF_WEEK])
        columns = [
            "*" if len(values) == len(field.all) else ",".join(map(str, sorted(values)))
            for field, values in zip(_FIELDS, sets, strict=True)
        ]
        # Loaded for who has a schedule: here, where an inventory is read beside traffic, and not when one is due.
        import croniter  # noqa: F401, PLC0415

        return cls(text, " ".join([*columns[:-1], "0", columns[-1]]))

    def next_after(self, moment: datetime) -> datetime | None:
        """The first moment later than ``moment`` (aware), in UTC; None: there is none any more."""
        return self._search(moment.astimezone(UTC), backwards=False)

    def last_until(self, moment: datetime) -> datetime | None:
        """The last moment not later than ``moment`` (aware), in UTC; None: there was none."""
        return self._search(moment.astimezone(UTC) + timedelta(microseconds=1), backwards=True)

    def _search(self, start: datetime, *, backwards: bool) -> datetime | None:
        from croniter import CroniterBadDateError, croniter  # noqa: PLC0415

        # It would give up after 50 years.
        search = croniter(self.cron, start, ret_type=datetime, max_years_between_matches=_YEARS)
        try:
            found = search.get_prev() if backwards else search.get_next()
        except CroniterBadDateError:
            return None
        assert isinstance(found, datetime)
        return found

    def __str__(self) -> str:
        return self.text


def is_on(start_at: Schedule | None, stop_at: Schedule | None, moment: datetime) -> bool | None:
    """Whether a service with these schedules runs at ``moment`` by them; None: they don't say.

    The later one of both schedules' last moments counts; at the same moment the start does.
    """
    started = start_at.last_until(moment) if start_at is not None else None
    stopped = stop_at.last_until(moment) if stop_at is not None else None
    if started is None:
        return None if stopped is None else False
    return stopped is None or started >= stopped
