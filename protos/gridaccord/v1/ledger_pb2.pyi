from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Envelope(_message.Message):
    __slots__ = ("type", "payload", "signature")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    type: int
    payload: bytes
    signature: bytes
    def __init__(self, type: _Optional[int] = ..., payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Transaction(_message.Message):
    __slots__ = ("signer", "sequence", "valid_until_height", "kind", "content")
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    signer: str
    sequence: int
    valid_until_height: int
    kind: str
    content: bytes
    def __init__(self, signer: _Optional[str] = ..., sequence: _Optional[int] = ..., valid_until_height: _Optional[int] = ..., kind: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class BlockPayload(_message.Message):
    __slots__ = ("transactions",)
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    transactions: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, transactions: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("header", "payload")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    payload: bytes
    def __init__(self, header: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Transfer(_message.Message):
    __slots__ = ("to", "asset", "amount")
    TO_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    to: str
    asset: str
    amount: int
    def __init__(self, to: _Optional[str] = ..., asset: _Optional[str] = ..., amount: _Optional[int] = ...) -> None: ...

class Issue(_message.Message):
    __slots__ = ("owner", "asset", "amount")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    owner: str
    asset: str
    amount: int
    def __init__(self, owner: _Optional[str] = ..., asset: _Optional[str] = ..., amount: _Optional[int] = ...) -> None: ...

class CreditLimit(_message.Message):
    __slots__ = ("owner", "asset", "limit")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    owner: str
    asset: str
    limit: int
    def __init__(self, owner: _Optional[str] = ..., asset: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class NewParticipant(_message.Message):
    __slots__ = ("participant", "public_key", "possession")
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    POSSESSION_FIELD_NUMBER: _ClassVar[int]
    participant: str
    public_key: bytes
    possession: bytes
    def __init__(self, participant: _Optional[str] = ..., public_key: _Optional[bytes] = ..., possession: _Optional[bytes] = ...) -> None: ...

class NewDevice(_message.Message):
    __slots__ = ("device", "account", "public_key", "possession")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    POSSESSION_FIELD_NUMBER: _ClassVar[int]
    device: str
    account: str
    public_key: bytes
    possession: bytes
    def __init__(self, device: _Optional[str] = ..., account: _Optional[str] = ..., public_key: _Optional[bytes] = ..., possession: _Optional[bytes] = ...) -> None: ...

class NewKey(_message.Message):
    __slots__ = ("device", "public_key", "possession")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    POSSESSION_FIELD_NUMBER: _ClassVar[int]
    device: str
    public_key: bytes
    possession: bytes
    def __init__(self, device: _Optional[str] = ..., public_key: _Optional[bytes] = ..., possession: _Optional[bytes] = ...) -> None: ...

class ValidatorSignal(_message.Message):
    __slots__ = ("validators",)
    VALIDATORS_FIELD_NUMBER: _ClassVar[int]
    validators: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, validators: _Optional[_Iterable[str]] = ...) -> None: ...

class VersionSignal(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class ReadingsCommitment(_message.Message):
    __slots__ = ("root", "size", "columns", "start_s", "end_s", "corrections")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    CORRECTIONS_FIELD_NUMBER: _ClassVar[int]
    root: bytes
    size: int
    columns: int
    start_s: int
    end_s: int
    corrections: int
    def __init__(self, root: _Optional[bytes] = ..., size: _Optional[int] = ..., columns: _Optional[int] = ..., start_s: _Optional[int] = ..., end_s: _Optional[int] = ..., corrections: _Optional[int] = ...) -> None: ...

class MeterBatch(_message.Message):
    __slots__ = ("salt_seed", "columns")
    SALT_SEED_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    salt_seed: bytes
    columns: _containers.RepeatedCompositeFieldContainer[Envelope]
    def __init__(self, salt_seed: _Optional[bytes] = ..., columns: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ...) -> None: ...

class EventProof(_message.Message):
    __slots__ = ("certificate", "certified", "history", "header", "receipt", "inclusion", "receipts", "event")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CERTIFIED_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    certified: bytes
    history: _containers.RepeatedScalarFieldContainer[bytes]
    header: bytes
    receipt: bytes
    inclusion: _containers.RepeatedScalarFieldContainer[bytes]
    receipts: int
    event: int
    def __init__(self, certificate: _Optional[bytes] = ..., certified: _Optional[bytes] = ..., history: _Optional[_Iterable[bytes]] = ..., header: _Optional[bytes] = ..., receipt: _Optional[bytes] = ..., inclusion: _Optional[_Iterable[bytes]] = ..., receipts: _Optional[int] = ..., event: _Optional[int] = ...) -> None: ...

class Boundary(_message.Message):
    __slots__ = ("header", "certificate", "next_validators")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    NEXT_VALIDATORS_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    certificate: bytes
    next_validators: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, header: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., next_validators: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SnapshotHead(_message.Message):
    __slots__ = ("genesis", "header", "payload", "certificate", "history_peaks", "boundaries", "entries")
    GENESIS_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_PEAKS_FIELD_NUMBER: _ClassVar[int]
    BOUNDARIES_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    genesis: bytes
    header: bytes
    payload: bytes
    certificate: bytes
    history_peaks: _containers.RepeatedScalarFieldContainer[bytes]
    boundaries: _containers.RepeatedCompositeFieldContainer[Boundary]
    entries: int
    def __init__(self, genesis: _Optional[bytes] = ..., header: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., history_peaks: _Optional[_Iterable[bytes]] = ..., boundaries: _Optional[_Iterable[_Union[Boundary, _Mapping]]] = ..., entries: _Optional[int] = ...) -> None: ...

class StateEntry(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...
