"""Decoding protobuf strictly: bounded input, known fields only, one named error."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from coordinator.consensus.errors import DecodeError

_M = TypeVar("_M", bound=Message)


def parse(kind: type[_M], data: bytes, size_max: int) -> _M:
    """The message in these bytes. Raises DecodeError where they are too many, malformed, or hold unknown fields."""
    name = kind.DESCRIPTOR.name
    if len(data) > size_max:
        raise DecodeError(f"{name}: {len(data)} bytes, at most {size_max} are accepted")
    message = kind()
    try:
        message.ParseFromString(data)
    except (ProtobufDecodeError, UnicodeDecodeError):
        raise DecodeError(f"{name}: the bytes are not such a message") from None
    refuse_unknown(message)
    return message


def refuse_unknown(message: Message) -> None:
    """Raise DecodeError where a message, whose sub-messages are checked on their own, holds a field we do not know."""
    if len(UnknownFieldSet(message)):
        raise DecodeError(f"{message.DESCRIPTOR.name}: holds a field that this version does not know")
