from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("challenge", "answer", "messages", "chunk", "batch_request", "batch_part")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    BATCH_REQUEST_FIELD_NUMBER: _ClassVar[int]
    BATCH_PART_FIELD_NUMBER: _ClassVar[int]
    challenge: Challenge
    answer: Answer
    messages: _containers.RepeatedCompositeFieldContainer[ChainMessage]
    chunk: Chunk
    batch_request: BatchRequest
    batch_part: BatchPart
    def __init__(self, challenge: _Optional[_Union[Challenge, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., messages: _Optional[_Iterable[_Union[ChainMessage, _Mapping]]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., batch_request: _Optional[_Union[BatchRequest, _Mapping]] = ..., batch_part: _Optional[_Union[BatchPart, _Mapping]] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    def __init__(self, nonce: _Optional[bytes] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("certificate", "signature")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    signature: bytes
    def __init__(self, certificate: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ChainMessage(_message.Message):
    __slots__ = ("chain_id", "consensus", "transactions")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    CONSENSUS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    consensus: bytes
    transactions: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, chain_id: _Optional[bytes] = ..., consensus: _Optional[bytes] = ..., transactions: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("chain_id", "digest", "size", "offset", "data")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    digest: bytes
    size: int
    offset: int
    data: bytes
    def __init__(self, chain_id: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., size: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("chain_id", "root", "height", "place", "offset")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    root: bytes
    height: int
    place: int
    offset: int
    def __init__(self, chain_id: _Optional[bytes] = ..., root: _Optional[bytes] = ..., height: _Optional[int] = ..., place: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class BatchPart(_message.Message):
    __slots__ = ("chain_id", "root", "size", "offset", "data")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    root: bytes
    size: int
    offset: int
    data: bytes
    def __init__(self, chain_id: _Optional[bytes] = ..., root: _Optional[bytes] = ..., size: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ReadingsPart(_message.Message):
    __slots__ = ("chain_id", "size", "data")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    size: int
    data: bytes
    def __init__(self, chain_id: _Optional[bytes] = ..., size: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("chain_id", "transaction", "wait")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    transaction: bytes
    wait: bool
    def __init__(self, chain_id: _Optional[bytes] = ..., transaction: _Optional[bytes] = ..., wait: _Optional[bool] = ...) -> None: ...

class SubmitReply(_message.Message):
    __slots__ = ("digest", "height", "code", "detail")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    height: int
    code: str
    detail: str
    def __init__(self, digest: _Optional[bytes] = ..., height: _Optional[int] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("node", "organization", "public_key", "chains", "peers")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATION_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    node: str
    organization: str
    public_key: bytes
    chains: _containers.RepeatedCompositeFieldContainer[ChainStatus]
    peers: _containers.RepeatedCompositeFieldContainer[PeerStatus]
    def __init__(self, node: _Optional[str] = ..., organization: _Optional[str] = ..., public_key: _Optional[bytes] = ..., chains: _Optional[_Iterable[_Union[ChainStatus, _Mapping]]] = ..., peers: _Optional[_Iterable[_Union[PeerStatus, _Mapping]]] = ...) -> None: ...

class ChainStatus(_message.Message):
    __slots__ = ("name", "chain_id", "height", "time_ms", "epoch", "view", "final_view", "may_vote", "healthy", "waiting_transactions", "finality_p50_us", "finality_p99_us", "finality_samples", "transactions", "tip", "sync_p50_us", "settlements", "in_doubt", "in_doubt_total", "regions", "followed", "sources", "fault")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    FINAL_VIEW_FIELD_NUMBER: _ClassVar[int]
    MAY_VOTE_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    WAITING_TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    FINALITY_P50_US_FIELD_NUMBER: _ClassVar[int]
    FINALITY_P99_US_FIELD_NUMBER: _ClassVar[int]
    FINALITY_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    TIP_FIELD_NUMBER: _ClassVar[int]
    SYNC_P50_US_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENTS_FIELD_NUMBER: _ClassVar[int]
    IN_DOUBT_FIELD_NUMBER: _ClassVar[int]
    IN_DOUBT_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    FOLLOWED_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    name: str
    chain_id: bytes
    height: int
    time_ms: int
    epoch: int
    view: int
    final_view: int
    may_vote: bool
    healthy: bool
    waiting_transactions: int
    finality_p50_us: int
    finality_p99_us: int
    finality_samples: int
    transactions: int
    tip: bytes
    sync_p50_us: int
    settlements: _containers.RepeatedCompositeFieldContainer[SettlementCount]
    in_doubt: _containers.RepeatedCompositeFieldContainer[InDoubt]
    in_doubt_total: int
    regions: _containers.RepeatedScalarFieldContainer[str]
    followed: bool
    sources: _containers.RepeatedScalarFieldContainer[str]
    fault: str
    def __init__(self, name: _Optional[str] = ..., chain_id: _Optional[bytes] = ..., height: _Optional[int] = ..., time_ms: _Optional[int] = ..., epoch: _Optional[int] = ..., view: _Optional[int] = ..., final_view: _Optional[int] = ..., may_vote: _Optional[bool] = ..., healthy: _Optional[bool] = ..., waiting_transactions: _Optional[int] = ..., finality_p50_us: _Optional[int] = ..., finality_p99_us: _Optional[int] = ..., finality_samples: _Optional[int] = ..., transactions: _Optional[int] = ..., tip: _Optional[bytes] = ..., sync_p50_us: _Optional[int] = ..., settlements: _Optional[_Iterable[_Union[SettlementCount, _Mapping]]] = ..., in_doubt: _Optional[_Iterable[_Union[InDoubt, _Mapping]]] = ..., in_doubt_total: _Optional[int] = ..., regions: _Optional[_Iterable[str]] = ..., followed: _Optional[bool] = ..., sources: _Optional[_Iterable[str]] = ..., fault: _Optional[str] = ...) -> None: ...

class SettlementCount(_message.Message):
    __slots__ = ("state", "count")
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    state: str
    count: int
    def __init__(self, state: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class InDoubt(_message.Message):
    __slots__ = ("sid", "since_height", "since_ms")
    SID_FIELD_NUMBER: _ClassVar[int]
    SINCE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    sid: str
    since_height: int
    since_ms: int
    def __init__(self, sid: _Optional[str] = ..., since_height: _Optional[int] = ..., since_ms: _Optional[int] = ...) -> None: ...

class PeerStatus(_message.Message):
    __slots__ = ("name", "public_key", "connected", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    public_key: bytes
    connected: bool
    reason: str
    def __init__(self, name: _Optional[str] = ..., public_key: _Optional[bytes] = ..., connected: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class BlockRequest(_message.Message):
    __slots__ = ("chain_id", "height", "digest")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    height: int
    digest: bytes
    def __init__(self, chain_id: _Optional[bytes] = ..., height: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class BlockReply(_message.Message):
    __slots__ = ("block", "certificate")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    block: bytes
    certificate: bytes
    def __init__(self, block: _Optional[bytes] = ..., certificate: _Optional[bytes] = ...) -> None: ...

class TransactionRequest(_message.Message):
    __slots__ = ("chain_id", "digest")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    digest: bytes
    def __init__(self, chain_id: _Optional[bytes] = ..., digest: _Optional[bytes] = ...) -> None: ...

class ParticipantRequest(_message.Message):
    __slots__ = ("chain_id", "participant")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    participant: str
    def __init__(self, chain_id: _Optional[bytes] = ..., participant: _Optional[str] = ...) -> None: ...

class ParticipantReply(_message.Message):
    __slots__ = ("public_key", "next_sequence", "height")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    next_sequence: int
    height: int
    def __init__(self, public_key: _Optional[bytes] = ..., next_sequence: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class AccountRequest(_message.Message):
    __slots__ = ("chain_id", "owner", "asset")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    owner: str
    asset: str
    def __init__(self, chain_id: _Optional[bytes] = ..., owner: _Optional[str] = ..., asset: _Optional[str] = ...) -> None: ...

class FinalityProof(_message.Message):
    __slots__ = ("boundaries", "certificate", "certified", "history", "header")
    BOUNDARIES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CERTIFIED_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    boundaries: _containers.RepeatedScalarFieldContainer[bytes]
    certificate: bytes
    certified: bytes
    history: _containers.RepeatedScalarFieldContainer[bytes]
    header: bytes
    def __init__(self, boundaries: _Optional[_Iterable[bytes]] = ..., certificate: _Optional[bytes] = ..., certified: _Optional[bytes] = ..., history: _Optional[_Iterable[bytes]] = ..., header: _Optional[bytes] = ...) -> None: ...

class StateEntryProof(_message.Message):
    __slots__ = ("finality", "key", "value", "present", "proof")
    FINALITY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    finality: FinalityProof
    key: bytes
    value: bytes
    present: bool
    proof: bytes
    def __init__(self, finality: _Optional[_Union[FinalityProof, _Mapping]] = ..., key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., present: _Optional[bool] = ..., proof: _Optional[bytes] = ...) -> None: ...

class ReceiptProof(_message.Message):
    __slots__ = ("finality", "receipt", "inclusion", "receipts")
    FINALITY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    finality: FinalityProof
    receipt: bytes
    inclusion: _containers.RepeatedScalarFieldContainer[bytes]
    receipts: int
    def __init__(self, finality: _Optional[_Union[FinalityProof, _Mapping]] = ..., receipt: _Optional[bytes] = ..., inclusion: _Optional[_Iterable[bytes]] = ..., receipts: _Optional[int] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("chain_id", "size", "height", "inclusion")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    size: int
    height: int
    inclusion: bool
    def __init__(self, chain_id: _Optional[bytes] = ..., size: _Optional[int] = ..., height: _Optional[int] = ..., inclusion: _Optional[bool] = ...) -> None: ...

class HistoryReply(_message.Message):
    __slots__ = ("size", "root", "proof")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    size: int
    root: bytes
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, size: _Optional[int] = ..., root: _Optional[bytes] = ..., proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CheckpointRequest(_message.Message):
    __slots__ = ("chain_id",)
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    def __init__(self, chain_id: _Optional[bytes] = ...) -> None: ...

class CheckpointReply(_message.Message):
    __slots__ = ("note",)
    NOTE_FIELD_NUMBER: _ClassVar[int]
    note: bytes
    def __init__(self, note: _Optional[bytes] = ...) -> None: ...

class SettlementRequest(_message.Message):
    __slots__ = ("chain_id", "height", "index")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    height: int
    index: int
    def __init__(self, chain_id: _Optional[bytes] = ..., height: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

class SettlementReply(_message.Message):
    __slots__ = ("state", "reason", "closed", "deadline_height", "decided_height", "participants")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DECIDED_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    state: str
    reason: str
    closed: bool
    deadline_height: int
    decided_height: int
    participants: _containers.RepeatedCompositeFieldContainer[SettlementParticipant]
    def __init__(self, state: _Optional[str] = ..., reason: _Optional[str] = ..., closed: _Optional[bool] = ..., deadline_height: _Optional[int] = ..., decided_height: _Optional[int] = ..., participants: _Optional[_Iterable[_Union[SettlementParticipant, _Mapping]]] = ...) -> None: ...

class SettlementParticipant(_message.Message):
    __slots__ = ("region", "verdict", "applied")
    REGION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    region: str
    verdict: str
    applied: bool
    def __init__(self, region: _Optional[str] = ..., verdict: _Optional[str] = ..., applied: _Optional[bool] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("chain_id", "from_height")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    chain_id: bytes
    from_height: int
    def __init__(self, chain_id: _Optional[bytes] = ..., from_height: _Optional[int] = ...) -> None: ...
