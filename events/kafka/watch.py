"""Whether the topic that is read is still there, and still the same. A consumer gets no error, and just no records.

A topic that was made anew begins again at offset 0, with other records: a reader that goes on at its old offset misses
events, or counts some twice. Counterparts: :mod:`spnhub.events.kafka.source` and :mod:`spnhub.events.kafka.group`,
which read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from spnhub.events.kafka.settings import KafkaSettings
from spnhub.events.kafka.topic import Admin, Described, KafkaUnavailable, connected
from spnhub.events.kafka.topic_settings import TopicFault, topic_faults

__all__ = ["TopicChanged", "TopicIsGone", "TopicWatch"]

_INTERVAL: Final = 2.0
"""Seconds between two looks: one request each, over a connection of its own."""
_SETTINGS_INTERVAL: Final = 10.0
"""Seconds between two looks at the topic's settings."""
_ANSWER_TIMEOUT: Final = 10.0


class TopicIsGone(KafkaUnavailable):
    """There is no such topic, or no longer."""


class TopicChanged(KafkaUnavailable):
    """The topic is another, or has more partitions; :meth:`TopicWatch.begin` anew."""

    def __init__(self, message: str, *, anew: bool) -> None:
        super().__init__(message)
        self.anew = anew
        """What was read of it is no longer there."""


class TopicWatch:
    """Observes one topic, from :meth:`begin` on.

    :param on_trouble: called with the reason why the topic can't be looked at, and with None when it can again.
    """

    def __init__(self, settings: KafkaSettings, on_trouble: Callable[[KafkaUnavailable | None], None]) -> None:
        self._settings = settings
        self._on_trouble = on_trouble
        self._found: Described | None = None
        self._settings_at = 0.0
        self.faults: tuple[TopicFault, ...] = ()
        """Of the topic's settings, when last looked at."""

    async def begin(self) -> Described:
        """Find the topic as it is now.

        :raises TopicIsGone: there is none.
        :raises KafkaUnavailable: not reached, or not allowed.
        """
        async with connected(self._settings) as admin:
            found = await self._describe(admin)
            await self._judge_settings(admin, found)
        self._found = found
        return found

    async def check(self) -> None:
        """Look once.

        :raises TopicIsGone: there is none.
        :raises TopicChanged: it is another.
        :raises KafkaUnavailable: not reached, or not allowed.
        """
        async with connected(self._settings) as admin:
            await self._compare(admin)

    async def run(self) -> None:
        """Look again and again; Kafka may come and go.

        :raises TopicIsGone: there is none.
        :raises TopicChanged: it is another.
        """
        while True:
            try:
                async with connected(self._settings, within=None) as admin:
                    while True:
                        async with asyncio.timeout(_ANSWER_TIMEOUT):
                            await self._compare(admin)
                        self._on_trouble(None)
                        await asyncio.sleep(_INTERVAL)
            except (TopicIsGone, TopicChanged):
                raise
            except KafkaUnavailable as exc:
                self._on_trouble(exc)
            await asyncio.sleep(_INTERVAL)

    async def _compare(self, admin: Admin) -> None:
        before, now = self._found, await self._describe(admin)
        assert before is not None
        topic = self._settings.topic
        if (before.cluster_id, before.topic_id) != (now.cluster_id, now.topic_id) and before.topic_id:
            raise TopicChanged(f"the topic {topic} was made anew", anew=True)
        if before.partitions != now.partitions:
            fewer = len(now.partitions) < len(before.partitions)
            raise TopicChanged(f"the topic {topic} has {len(now.partitions)} partitions now", anew=fewer)
        if time.monotonic() - self._settings_at > _SETTINGS_INTERVAL:
            await self._judge_settings(admin, now)

    async def _describe(self, admin: Admin) -> Described:
        found = await admin.described(self._settings.topic)
        if found is None:
            raise TopicIsGone(f"there is no topic {self._settings.topic}")
        return found

    async def _judge_settings(self, admin: Admin, found: Described) -> None:
        self.faults = topic_faults(await admin.settings_of(self._settings.topic), found.replicas)
        self._settings_at = time.monotonic()
