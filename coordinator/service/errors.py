"""What stops a node or refuses a peer; the message names the thing and the remedy."""

from __future__ import annotations


class ServiceError(RuntimeError):
    """Something about this node, its folder or a call; says what to do."""


class ConfigurationError(ServiceError):
    """A consortium file or a node's folder that cannot be used."""


class PeerRefused(ServiceError):
    """A certificate, role or message of somebody else is not accepted; the reason goes to the log."""


class CallFailed(ServiceError):
    """A node did not answer a call, or refused it. `is_passing`: another node, or this one later, may answer it."""

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class Busy(ServiceError):
    """Too much at once; the same call can succeed later."""
