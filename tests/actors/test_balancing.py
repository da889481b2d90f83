"""The choice of a provider against a direct statement of D-26 and D-35."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.service.balancing import Choice, ProviderChoice


@dataclass
class Known:
    """What D-26 and D-35 speak of."""

    weight: int
    order: int
    legs: int = 0
    unresponsive: bool = False
    failures: int = 0
    until: float = 0.0
    failed_at: int = 0
    """Which failure of all it was."""
    tried: bool = False


def stated(
    providers: dict[int, Known], now: float, without: Collection[int], *, last_resort: bool, trial: bool
) -> Choice | None:
    """The least (n + 1) / w; ties: larger weight, then older session; w = 0 and suspects never.

    Those that failed: when their time has come, one opening at a time; before, the one that failed the longest ago,
    when nobody else is left.
    """
    candidates = [s for s, p in providers.items() if p.weight > 0 and not p.unresponsive and s not in without]
    rested = [
        s for s in candidates if not providers[s].failures or (providers[s].until <= now and not providers[s].tried)
    ]
    rested = [s for s in rested if trial or not providers[s].failures]
    if rested:
        best = min(
            rested,
            key=lambda s: (
                Fraction(providers[s].legs + 1, providers[s].weight),
                -providers[s].weight,
                providers[s].order,
            ),
        )
        return Choice(best, on_trial=providers[best].failures > 0)
    failed = [s for s in candidates if providers[s].failures]
    if not failed or not last_resort:
        return None
    return Choice(min(failed, key=lambda s: providers[s].failed_at), on_trial=True, last_resort=True)


WEIGHTS = st.sampled_from([0, 1, 2, 3, 50, 99, 100, 101, 200, 1_000_000])
STEPS = st.lists(
    st.tuples(st.sampled_from("aaaaaarxwsodffukt"), st.integers(0, 9), WEIGHTS),
    max_size=200,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_choice_is_as_stated(steps: list[tuple[str, int, int]]) -> None:
    """Whatever comes, goes, changes its weight, is suspected, answers, fails or takes: the same provider is chosen."""
    choice = ProviderChoice(1.0, 30.0)
    providers: dict[int, Known] = {}
    now = 100.0
    for order, (step, number, weight) in enumerate(steps):
        sessions = list(providers)
        session = sessions[number % len(sessions)] if sessions else -1
        known = providers.get(session)
        match step:
            case "o" | "d":
                choice.add(order, weight)
                providers[order] = Known(weight, order)
            case "x" if number < 3:
                choice.remove(session)
                providers.pop(session, None)
            case "w" if known:
                choice.set_weight(session, weight)
                known.weight = weight
            case "s" if known:
                choice.set_unresponsive(session, bool(number % 2))
                known.unresponsive = bool(number % 2)
            case "r" if known and known.legs:
                choice.release(session)
                known.legs -= 1
            case "t":
                now += number / 2
            case "f" if known:
                told = choice.fail(session, now)
                known.failed_at = order
                if known.failures and now < known.until:
                    assert told is None
                else:
                    seconds = min(30.0, 2.0**known.failures)
                    known.failures, known.until, known.tried = known.failures + 1, now + seconds, False
                    assert told == (known.failures, seconds)
            case "k" if known:
                assert choice.succeed(session) == (known.failures > 0)
                known.failures, known.tried = 0, False
            case "u" if known:
                choice.untried(session)
                known.tried = False
            case "a":
                without = sessions[: number % 4] if number > 6 else []
                kind = {"last_resort": number < 5, "trial": number not in {5, 7}}
                expected = stated(providers, now, without, **kind)
                assert choice.acquire(now, without, **kind) == expected
                if expected is not None:
                    providers[expected.session].legs += 1
                    providers[expected.session].tried |= expected.on_trial and not expected.last_resort
        assert len(choice) == len(providers)
        assert all(choice.legs(s) == p.legs for s, p in providers.items())
        counts = choice.counts()
        assert max(counts["heap"], counts["resting"]) <= 2 * len(choice) + 65
        assert counts["failed"] == sum(known.failures > 0 for known in providers.values())
        assert [choice.standing(s) for s in providers] == [
            (p.weight, p.unresponsive, p.failures) for p in providers.values()
        ]


def test_unknown_sessions_are_ignored() -> None:
    """What has gone may still be spoken of."""
    choice = ProviderChoice()
    choice.release(1)
    choice.set_weight(1, 5)
    choice.set_unresponsive(1, unresponsive=True)
    choice.untried(1)
    choice.remove(1)
    assert (choice.fail(1, 0.0), choice.succeed(1)) == (None, False)
    assert (choice.acquire(0.0), choice.legs(1), 1 in choice) == (None, 0, False)


def test_how_long_one_is_passed_over() -> None:
    """1 s, doubled up to 30 s with each failure of a trial; back to 1 s when it has taken one."""
    choice = ProviderChoice()
    choice.add(1, 100)
    now, times = 0.0, []
    for _ in range(8):
        told = choice.fail(1, now)
        assert told is not None
        times.append(told[1])
        now += told[1]
    assert times == [1, 2, 4, 8, 16, 30, 30, 30]
    choice.succeed(1)
    assert choice.fail(1, now) == (1, 1.0)


def test_one_that_comes_back_is_known() -> None:
    """A provider that is added again with what is known of it is passed over as long as before."""
    choice = ProviderChoice()
    choice.add(1, 100, failures=2, until=10.0)
    choice.add(2, 1)
    assert choice.acquire(9.0) == Choice(2)
    assert choice.acquire(10.0) == Choice(1, on_trial=True)
    assert choice.fail(1, 10.0) == (3, 4.0)


def test_the_cost_of_many_that_fail() -> None:
    """Thousands that are passed over cost an opening nothing, and one that flaps leaves nothing behind."""
    choice = ProviderChoice()
    for session in range(5000):
        choice.add(session, 100)
        choice.fail(session, 0.0)
    for _ in range(20_000):
        choice.fail(1, 0.0)
        choice.succeed(1)
    assert choice.counts()["resting"] <= 2 * 5000 + 65
    assert choice.acquire(0.5) == Choice(1)
    assert choice.acquire(0.5, without=(1,)) == Choice(0, on_trial=True, last_resort=True)
