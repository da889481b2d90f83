"""The topic as its shipper knows it: which one it is, what it has acknowledged, and whether it keeps that.

Counterparts: :mod:`spnhub.events.shipper.loop`, which acts on what is found here;
:mod:`spnhub.events.kafka.topic_settings`.
"""

from __future__ import annotations

from spnhub.events.kafka.settings import KafkaSettings
from spnhub.events.kafka.topic import TopicState, look_at_topic
from spnhub.events.shipper.lane import LaneBroken, TopicShrank

__all__ = ["ShippedTo", "TopicLoses"]


class TopicLoses(Exception):
    """The topic loses what it acknowledges; the message says by which setting."""


class ShippedTo:
    """What is remembered of the topic, over restarts, too."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.cluster_id = ""
        self.topic_id = ""
        self.offsets: dict[int, int] = {}
        """Last acknowledged offset by partition."""
        self.faults: tuple[str, ...] = ()
        """Of its settings, when last looked at."""

    def judge(self, state: TopicState) -> None:
        """Whether the topic keeps what it gets.

        :raises TopicLoses: it doesn't.
        """
        self.faults = tuple(fault.message for fault in state.faults)
        loses = [fault.message for fault in state.faults if fault.loses]
        if loses:
            raise TopicLoses("; ".join(loses))

    def recognise(self, state: TopicState) -> str | None:
        """Why this isn't the topic any more that had acknowledged it all: nothing else would notice. None: it is.

        From then on it is the one that is meant.
        """
        topic = self._settings.topic
        before = self.cluster_id, self.topic_id
        self.cluster_id = state.cluster_id or self.cluster_id
        self.topic_id = state.topic_id or self.topic_id
        if before[0] not in {"", self.cluster_id}:
            return f"{self._settings.bootstrap_servers} is another cluster now"
        if before[1] not in {"", self.topic_id}:
            return f"the topic {topic} was made anew"
        for partition, offset in self.offsets.items():
            end = state.ends.get(partition, 0)
            if end <= offset:
                return f"partition {partition} of {topic} ends at {end}, not behind {offset}"
        return None

    async def look(self) -> None:
        """Check the topic while it is shipped to: its settings may be changed, or it may be made anew.

        :raises LaneBroken: it is another topic, or gone.
        :raises TopicLoses: it doesn't keep what it gets any more.
        :raises KafkaUnavailable: it can't be asked.
        """
        topic = self._settings.topic
        state = await look_at_topic(self._settings)
        if state is None:
            raise LaneBroken(f"the topic {topic} is gone")
        if state.topic_id != self.topic_id:
            raise TopicShrank(f"the topic {topic} was made anew")
        self.judge(state)
