"""How a party keeps pace with the hub: which attempt is under way, and which steps are over."""

from __future__ import annotations

from dataclasses import replace

from coordinator.settlement.interval.hub_state import Running
from coordinator.settlement.interval.topics import Step, Topic


def follow_attempt(known: Topic | None, running: Running | None) -> Topic | None:
    """The commitments of the attempt under way; what was known where none is."""
    if running is None:
        return known
    return replace(running.topic, step=Step.COMMIT, round=0)


def has_passed(topic: Topic, running: Running | None) -> bool:
    """Whether the hub has left a step behind."""
    if running is None or running.interval > topic.interval:
        return True
    return _place(running.topic) > _place(topic)


def _place(topic: Topic) -> tuple[int, int, int]:
    return topic.attempt, topic.round, topic.step
