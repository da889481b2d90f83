"""The choice of a provider against a direct statement of D-26."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.choice import ProviderChoice


@dataclass
class Known:
    """What D-26 speaks of."""

    weight: int
    order: int
    legs: int = 0
    suspect: bool = False


def stated(providers: dict[int, Known]) -> int | None:
    """The least (n + 1) / w; ties: larger weight, then older session; w = 0 and suspects never."""
    candidates = [session for session, p in providers.items() if p.weight > 0 and not p.suspect]
    return min(
        candidates,
        key=lambda s: (Fraction(providers[s].legs + 1, providers[s].weight), -providers[s].weight, providers[s].order),
        default=None,
    )


WEIGHTS = st.sampled_from([0, 1, 2, 3, 50, 99, 100, 101, 200, 1_000_000])
STEPS = st.lists(
    st.tuples(st.sampled_from("aaaaarxwsod"), st.integers(0, 9), WEIGHTS),
    max_size=200,
)


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_choice_is_as_stated(steps: list[tuple[str, int, int]]) -> None:
    """Whatever comes, goes, changes its weight, is suspected or answers: the same provider is chosen."""
    choice = ProviderChoice()
    providers: dict[int, Known] = {}
    for order, (step, number, weight) in enumerate(steps):
        sessions = list(providers)
        session = sessions[number % len(sessions)] if sessions else -1
        match step:
            case "o" | "d":
                choice.add(order, weight)
                providers[order] = Known(weight, order)
            case "x" if number < 3:
                choice.remove(session)
                providers.pop(session, None)
            case "w" if sessions:
                choice.set_weight(session, weight)
                providers[session].weight = weight
            case "s" if sessions:
                choice.set_suspect(session, bool(number % 2))
                providers[session].suspect = bool(number % 2)
            case "r" if sessions and providers[session].legs:
                choice.release(session)
                providers[session].legs -= 1
            case "a":
                expected = stated(providers)
                assert choice.acquire() == expected
                if expected is not None:
                    providers[expected].legs += 1
        assert len(choice) == len(providers)
        assert all(choice.legs(s) == p.legs for s, p in providers.items())
        assert len(choice._heap) <= 2 * len(choice) + 65


def test_unknown_sessions_are_ignored() -> None:
    """What has gone may still be spoken of."""
    choice = ProviderChoice()
    choice.release(1)
    choice.set_weight(1, 5)
    choice.set_suspect(1, suspect=True)
    choice.remove(1)
    assert (choice.acquire(), choice.legs(1), 1 in choice) == (None, 0, False)
