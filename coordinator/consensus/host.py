"""The check that every host runs on the effects it carries out: nothing leaves while something is not durable."""

from __future__ import annotations

from coordinator.consensus.effects import Broadcast, Deliver, Effect, Persist, Send


class DurabilityCheck:
    """Call `before(effect)` before carrying an effect out, `synced()` after each sync, `end_of_step()` after a step."""

    __slots__ = ("dirty",)

    def __init__(self) -> None:
        self.dirty = False

    def needs_sync(self, effect: Effect) -> bool:
        """Whether the host must synchronise its storage before it carries this effect out."""
        return self.dirty and isinstance(effect, Broadcast | Send)

    def before(self, effect: Effect) -> None:
        """The assertion: a vote or anything else must not be sent before what it rests on is durable."""
        if isinstance(effect, Persist | Deliver):
            self.dirty = True
        elif isinstance(effect, Broadcast | Send):
            assert not self.dirty, "a message was about to leave before the journal was durable: sync first"

    def synced(self) -> None:
        """Everything written so far is durable."""
        self.dirty = False

    def end_of_step(self) -> None:
        """Nothing may stay unsynchronised because nothing happened to be sent (P6)."""
        assert not self.dirty, "a step ended before the journal was durable: sync at the end of each step"
