"""The protocols that sessions speak, as far as actors decide by them: what an endpoint of each can't do.

An endpoint of spn/1 can do all that the specification asks for. The agents of the generation before it speak sc01
(``transport/SC01.md``): they can't name a service, and nothing of them can be resumed.
"""

from __future__ import annotations

from typing import Final

from spnhub.dataclass import dataclass

__all__ = ["SC01", "SPN1", "Abilities", "abilities", "is_resumable", "one_leg_instance"]

SPN1: Final = "spn/1"
SC01: Final = "sc01"

_ONE_LEG: Final = "sc01:"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the endpoints of a protocol can do."""

    names_service: bool = True
    """They say which service they mean. Else it is the one that their certificate's common name may take part in."""
    resumes: bool = True
    """A connection of theirs can be paused, and go on in another leg (R-4.6, R-4.7)."""
    answers: bool = True
    """As providers, they say whether they take a connection. Else it counts as taken, and who can't reach his server
    resets it later."""
    asks_again: bool = True
    """What is refused while there is no provider, they ask for again. Else it waits for one
    (:attr:`spnhub.actors.contract.options.ActorOptions.provider_patience`)."""
    hears_of_idle_stop: bool = False
    """As consumers, they want to know that the provider was stopped because nobody used it."""


_ABILITIES: Final = {
    SPN1: Abilities(),
    SC01: Abilities(names_service=False, resumes=False, answers=False, asks_again=False, hears_of_idle_stop=True),
}


def abilities(protocol: str) -> Abilities:
    """What the endpoints of a protocol can do."""
    return _ABILITIES.get(protocol, _ABILITIES[SPN1])


def one_leg_instance(session_id: str) -> str:
    """The instance id of an endpoint that gives none and can't resume: another one for each session.

    So its peers know that there is nothing to resume with it (:func:`is_resumable`), and no session of the same
    certificate takes its place (D-28).
    """
    return f"{_ONE_LEG}{session_id}"


def is_resumable(instance_id: str) -> bool:
    """Whether a connection with this instance may go on in another leg."""
    return not instance_id.startswith(_ONE_LEG)
