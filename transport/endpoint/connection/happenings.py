"""What can happen to a connection, and what can have to be done then: the words of
:mod:`spnhub.transport.endpoint.connection.transitions`."""

from __future__ import annotations

from spnhub.actors.contract.packets import Accept, CloseRequest, Opening, PauseRequest, ToLeg
from spnhub.events.frozen import dataclass

__all__ = [
    "Abort",
    "Aborted",
    "Accepted",
    "Action",
    "Arm",
    "Close",
    "DeadlinePassed",
    "DropRest",
    "DropStream",
    "EndLeg",
    "EndedElsewhere",
    "Fail",
    "Failed",
    "FinPassed",
    "ForgetStream",
    "Happening",
    "KeepEarly",
    "KeepRecord",
    "LegAction",
    "LegLeft",
    "LegRefused",
    "LegSessionLost",
    "NotePeer",
    "NotePeerGone",
    "NoteRequest",
    "NoteStop",
    "Notify",
    "PassBytes",
    "PeerProcessGone",
    "PeerReset",
    "PeerStopped",
    "Refuse",
    "Rejected",
    "RepeatCloseRequest",
    "ReportClosed",
    "ReportConnected",
    "ReportFailed",
    "ReportGone",
    "ReportRequested",
    "SendAccept",
    "SendCloseAck",
    "SendCloseRequest",
    "SendPauseAck",
    "SendRefusal",
    "SessionFound",
    "TakeRest",
    "WritesTaken",
]

# ---------------------------------------------------------------------------------------------------- what can happen


@dataclass(frozen=True, slots=True)
class SessionFound:
    """There is a session for the first leg, or for the next one."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider's program has said yes."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider's program has said no, or the endpoint in its place."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class LegRefused:
    """The next leg was refused before there were streams for it."""

    code: int
    reason: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class EndedElsewhere:
    """The other end can't go on: it has ended in order, or why not."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class PeerProcessGone:
    """The process at the other end is gone, and no hub has another word of it."""


@dataclass(frozen=True, slots=True)
class LegLeft:
    """This endpoint ends the leg; the connection goes on in another."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class LegSessionLost:
    """The session is lost, and with it the leg."""

    reason: str


@dataclass(frozen=True, slots=True)
class PeerReset:
    """The peer's sending half was reset."""

    code: int


@dataclass(frozen=True, slots=True)
class PeerStopped:
    """The peer wants no more; our sending half was reset."""

    code: int


@dataclass(frozen=True, slots=True)
class FinPassed:
    """The program has sent its FIN or read the peer's, or both may be through in a new leg."""


@dataclass(frozen=True, slots=True)
class WritesTaken:
    """The other side may have taken everything that was written."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The program has ended with an error."""

    code: int


@dataclass(frozen=True, slots=True)
class Aborted:
    """An end at once: the program or the endpoint wants it, or the other side has broken the protocol."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The one deadline that was armed has come."""

    resume_over: bool
    """The resume timeout is over."""
    resume_timeout: float
    """Seconds."""
    reader_moved: bool
    """The peer has acknowledged something since the record was kept last."""


Happening = (
    SessionFound
    | Accepted
    | Rejected
    | LegRefused
    | EndedElsewhere
    | PeerProcessGone
    | Opening
    | Accept
    | ToLeg
    | LegLeft
    | LegSessionLost
    | PeerReset
    | PeerStopped
    | FinPassed
    | WritesTaken
    | Failed
    | Aborted
    | DeadlinePassed
)
"""Packets are happenings, too. On the leg's stream: a provider's Opening, the Accept that answers ours. On the session
that has the leg: the other endpoint asks for the end or agrees to it, the hub wants to end the leg (R-4.6)."""

# --------------------------------------------------------------------------------------------------- what is to be done


@dataclass(frozen=True, slots=True)
class Arm:
    """Set the one deadline, in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class PassBytes:
    """Application bytes may pass; what has overtaken the Accept is taken now."""

    resumed: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """It is over, refused, before it was established."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class NotePeer:
    """The hub has said whose the other end is."""

    peer: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class SendAccept:
    """A provider's: the consumer hears that it is established."""


@dataclass(frozen=True, slots=True)
class SendRefusal:
    """A provider's: the consumer hears why it isn't."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class DropStream:
    """Cut the leg's stream, both halves."""

    code: int


@dataclass(frozen=True, slots=True)
class ReportRequested:
    """A provider's: its program is to be asked."""

    opening: Opening


@dataclass(frozen=True, slots=True)
class ReportConnected:
    """A consumer's: its program hears that it is established."""


@dataclass(frozen=True, slots=True)
class ReportFailed:
    """A consumer's: its program hears that it will never be."""


@dataclass(frozen=True, slots=True)
class NoteStop:
    """How the peer's own direction ends is still to come; its stop is remembered."""

    code: int


@dataclass(frozen=True, slots=True)
class NoteRequest:
    """The other side has asked for the end, and both FINs are not yet through here."""


@dataclass(frozen=True, slots=True)
class NotePeerGone:
    """The hub of this leg has said that the other end's process is gone."""


@dataclass(frozen=True, slots=True)
class KeepEarly:
    """The packet has overtaken the Accept: take it after that."""

    packet: CloseRequest | PauseRequest


@dataclass(frozen=True, slots=True)
class Notify:
    """Notify the program's listener of what is the case now; for one that has failed, throw away what still comes."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The program has failed; what it has written is brought first."""

    code: int


@dataclass(frozen=True, slots=True)
class SendCloseRequest:
    """Ask for the end."""

    finished: bool


@dataclass(frozen=True, slots=True)
class RepeatCloseRequest:
    """Ask again: a hub that has lost the leg says so."""


@dataclass(frozen=True, slots=True)
class SendCloseAck:
    """Agree to the end."""


@dataclass(frozen=True, slots=True)
class SendPauseAck:
    """Agree to the pause; nothing more is read."""


@dataclass(frozen=True, slots=True)
class TakeRest:
    """The leg is being lost: take what it has brought, which may never come again."""

    more: bool = False
    """Also where there is something from an earlier leg that nobody has read."""


@dataclass(frozen=True, slots=True)
class DropRest:
    """Nobody reads the rest."""


@dataclass(frozen=True, slots=True)
class ForgetStream:
    """There is no stream any more that could be ended."""


@dataclass(frozen=True, slots=True)
class EndLeg:
    """The leg is over, the connection isn't."""

    code: int
    reason: str
    left: bool
    """It was Connected there: another session is tried first."""


@dataclass(frozen=True, slots=True)
class ReportClosed:
    """The program's listener is notified that both directions have ended in order."""


@dataclass(frozen=True, slots=True)
class KeepRecord:
    """It is kept for as long as the peer goes on reading."""


@dataclass(frozen=True, slots=True)
class Close:
    """The end in order."""

    on_stream: bool
    """The other side sees it on the stream."""
    drop: int | None = None
    """The code that the leg's stream is cut with; None: it isn't."""
    report: bool = True
    """The program's listener is notified, if it hasn't been."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The end with an error."""

    code: int
    reason: str
    notice: bool
    """It gets a notice of ours, if it can't see it on the stream."""
    on_stream: bool
    """The other side sees it on the stream."""
    keep_fin: bool
    """See :meth:`EndpointLeg.drop`."""


@dataclass(frozen=True, slots=True)
class ReportGone:
    """The hub that knows of the other end hears what has become of it here."""


LegAction = (
    PassBytes
    | SendAccept
    | SendRefusal
    | DropStream
    | KeepEarly
    | NoteRequest
    | SendCloseRequest
    | RepeatCloseRequest
    | SendCloseAck
    | SendPauseAck
    | TakeRest
    | ForgetStream
    | EndLeg
)
"""What is done to the leg that there is."""

Action = (
    LegAction
    | Arm
    | Refuse
    | ReportRequested
    | ReportConnected
    | ReportFailed
    | NotePeer
    | NoteStop
    | NotePeerGone
    | Fail
    | Notify
    | DropRest
    | ReportClosed
    | KeepRecord
    | Close
    | Abort
    | ReportGone
)
