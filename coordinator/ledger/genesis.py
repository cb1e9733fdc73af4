"""The genesis document: what a chain starts from. Its exact bytes are the chain's name: chain_id = SHA-256 of them.

JSON, for people to read and agree on. Unknown and repeated keys, floats and anything out of range are refused.

    {"format": "gridaccord-genesis-1", "name": "north", "time_ms": 1900000000000, "version": 1, "epoch_length": 1000,
     "validators": [{"name": "north-1", "public_key": "<hex>"}, ...],      # registered as participants
     "participants": [{"name": "utility", "public_key": "<hex>"}],
     "devices": [{"name": "meter-1", "owner": "utility", "account": "utility", "public_key": "<hex>"}],
     "assets": [{"name": "EUR", "issuer": "utility"}],                     # issuer "" : minted by no transaction
     "accounts": [{"owner": "utility", "asset": "EUR", "balance": 1000000, "credit_limit": 0}],   # micro-units
     "parameters": {"late_limit_s": "604800"},
     "modules": {"<name>": {...}}}                                         # read by that part of the state machine
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import Header, payload_digest
from coordinator.consensus.signing import Scheme
from coordinator.consensus.validators import MAX_VALIDATORS, ValidatorSet
from coordinator.ledger import accounts, registry
from coordinator.ledger.codec import INT64_MAX
from coordinator.ledger.errors import BooksBroken, GenesisError, Rejected
from coordinator.ledger.history import EMPTY_ROOT, Frontier
from coordinator.ledger.invariants import check_books
from coordinator.ledger.records import (
    KEY_SIZE,
    PARAMETER,
    PROTOCOL,
    Asset,
    Committee,
    Protocol,
    checked_asset,
    checked_name,
)
from coordinator.ledger.state import EPOCH_LENGTH, SUPPORTED_VERSIONS, LedgerState, Machine, Module
from coordinator.ledger.state_tree import StateTree
from coordinator.ledger.view import BlockContext, Context, Records, View

FORMAT = "gridaccord-genesis-1"
GENESIS_MAX = 16 * 2**20
_TEXT_MAX = 4096
_ZERO = bytes(32)
_LISTS = {
    "validators": ["name", "public_key"],
    "participants": ["name", "public_key"],
    "devices": ["account", "name", "owner", "public_key"],
    "assets": ["issuer", "name"],
    "accounts": ["asset", "balance", "credit_limit", "owner"],
}
_KEYS = ("format", "name", "time_ms", "version", "epoch_length", *_LISTS, "parameters", "modules")

Section = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Genesis:
    """A genesis document: its exact bytes, and what they say."""

    encoded: bytes
    content: Section
    chain_id: bytes = field(init=False)
    """SHA-256 of the exact bytes; kept, because every envelope that is checked asks for it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "chain_id", hashlib.sha256(self.encoded).digest())

    @property
    def name(self) -> str:
        """What people call the chain."""
        return _text(self.content, "name")

    @property
    def epoch_length(self) -> int:
        """Blocks in an epoch."""
        return _integer(self.content, "epoch_length", 1)

    @property
    def validators(self) -> ValidatorSet:
        """The validators of epoch 0; the same for epoch 1."""
        keys = tuple(_key(entry) for entry in _entries(self.content, "validators"))
        return ValidatorSet(self.chain_id, 0, keys)


def encode_genesis(content: Section) -> bytes:
    """A document from its content."""
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def decode_genesis(data: bytes) -> Genesis:
    """Raises DecodeError where the bytes are no such document; `start` looks into what it says."""
    if len(data) > GENESIS_MAX:
        raise DecodeError(f"a genesis document of {len(data)} bytes; at most {GENESIS_MAX}")
    try:
        content = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DecodeError(f"genesis is not JSON: {error}") from None
    except ValueError as error:
        raise DecodeError(f"genesis: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DecodeError(f"genesis is not a JSON object of format {FORMAT}")
    if sorted(content) != sorted(_KEYS):
        raise DecodeError(f"genesis has the keys {', '.join(_KEYS)}, no fewer and no more")
    return Genesis(data, content)


def machine_of(
    genesis: Genesis, known: Sequence[Module], scheme: Scheme, versions: tuple[int, ...] = SUPPORTED_VERSIONS
) -> Machine:
    """The state machine of this chain: of the modules known, those that begin without a section and those named."""
    named = _section(genesis.content, "modules")
    return Machine([module for module in known if module.genesis is None or module.name in named], scheme, versions)


def start(genesis: Genesis, machine: Machine) -> LedgerState:
    """The state before block 1. Raises GenesisError."""
    content = genesis.content
    view = View(StateTree())
    try:
        time_ms = _integer(content, "time_ms", 0)
        _write(view, genesis)
        block = BlockContext(genesis.chain_id, 0, 0, time_ms, _integer(content, "version", 1), machine.scheme)
        sections = _section(content, "modules")
        unknown = [name for name in sections if name not in [module.name for module in machine.modules]]
        if unknown:
            raise GenesisError(f"modules: {unknown[0]!r} is not part of this software")
        for module in machine.modules:
            if module.genesis is not None:
                section = _section(sections, module.name) if module.name in sections else {}
                module.genesis(Context(view, block, Records(view, module.prefix)), section)
        check_books(view.tree)
    except Rejected as error:
        raise GenesisError(f"{error.code}: {error.detail}") from None
    except BooksBroken as error:
        raise GenesisError(str(error)) from None
    return LedgerState(header := _header(genesis, view.tree, time_ms), view.tree, Frontier().append(header.digest))


def _header(genesis: Genesis, tree: StateTree, time_ms: int) -> Header:
    """Height 0: no certificate signs it; trust in genesis is trust in its hash."""
    validators = genesis.validators
    return Header(
        version=_integer(genesis.content, "version", 1),
        chain_id=genesis.chain_id,
        epoch=0,
        height=0,
        time_ms=time_ms,
        parent_digest=_ZERO,
        transactions_root=EMPTY_ROOT,
        state_root=tree.root,
        receipts_root=EMPTY_ROOT,
        history_root=EMPTY_ROOT,
        validators_root=validators.root,
        next_validators_root=validators.root,
        payload_digest=payload_digest(b""),
    )


def _write(view: View, genesis: Genesis) -> None:
    content = genesis.content
    validators = _entries(content, "validators")
    if not validators:
        raise GenesisError("validators: there are none")
    if len(validators) > MAX_VALIDATORS:
        raise GenesisError(f"validators: {len(validators)}; at most {MAX_VALIDATORS}")
    for entry in (*validators, *_entries(content, "participants")):
        registry.add_participant(view, _text(entry, "name"), _key(entry))
    members = Committee(tuple((_text(entry, "name"), _key(entry)) for entry in validators))
    for slot in (registry.CURRENT, registry.NEXT, registry.PENDING):
        view.put(Committee.key(slot), members.encode())
    version = _integer(content, "version", 1, 2**16 - 1)
    view.put(PROTOCOL, Protocol(version, version, version).encode())
    for entry in _entries(content, "devices"):
        _write_device(view, entry)
    for entry in _entries(content, "assets"):
        _write_asset(view, entry)
    for entry in _entries(content, "accounts"):
        _write_account(view, entry)
    parameters = _section(content, "parameters")
    for name in sorted(parameters):
        view.put(PARAMETER + checked_name(name).encode(), _text(parameters, name).encode())
    view.put(PARAMETER + EPOCH_LENGTH.encode(), str(genesis.epoch_length).encode())


def _write_device(view: View, entry: Section) -> None:
    owner, account = _text(entry, "owner"), _text(entry, "account")
    for name in (owner, account):
        _check_registered(view, name)
    registry.add_device(view, _text(entry, "name"), owner, account, _key(entry))


def _write_asset(view: View, entry: Section) -> None:
    name, issuer = checked_asset(_text(entry, "name")), _text(entry, "issuer")
    if view.get(Asset.key(name)) is not None:
        raise GenesisError(f"assets: {name} stands there twice")
    if issuer:
        _check_registered(view, issuer)
    view.put(Asset.key(name), Asset(issuer).encode())


def _write_account(view: View, entry: Section) -> None:
    owner, asset = _text(entry, "owner"), _text(entry, "asset")
    _check_registered(view, owner)
    balance, limit = _integer(entry, "balance", 0), _integer(entry, "credit_limit", 0)
    if balance:
        accounts.mint(view, asset, owner, balance)
    accounts.set_credit_limit(view, asset, owner, limit)


def _check_registered(view: View, name: str) -> None:
    if registry.participant_of(view, name) is None:
        raise GenesisError(f"{name[:60]!r} is named but not a validator or participant")


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not an integer")


def _entries(section: Section, name: str) -> Sequence[Section]:
    entries = section.get(name)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise GenesisError(f"{name}: not a list of objects")
    for entry in entries:
        if sorted(entry) != _LISTS[name]:
            raise GenesisError(f"{name}: an entry has the keys {', '.join(_LISTS[name])}, no fewer and no more")
    return entries


def _section(section: Section, name: str) -> Section:
    value = section.get(name)
    if not isinstance(value, dict):
        raise GenesisError(f"{name}: not an object")
    return value


def _text(section: Section, name: str) -> str:
    value = section.get(name)
    if not isinstance(value, str):
        raise GenesisError(f"{name[:60]!r}: missing, or not a text")
    if len(value) > _TEXT_MAX or any("\ud800" <= character <= "\udfff" for character in value):
        raise GenesisError(f"{name[:60]!r}: longer than {_TEXT_MAX} characters, or not Unicode")
    return value


def _integer(section: Section, name: str, least: int, most: int = INT64_MAX) -> int:
    value = section.get(name)
    if type(value) is not int or not least <= value <= most:
        raise GenesisError(f"{name}: missing, or not an integer from {least} to {most}")
    return value


def _key(entry: Section) -> bytes:
    try:
        key = bytes.fromhex(_text(entry, "public_key"))
    except ValueError:
        raise GenesisError("public_key: not hexadecimal") from None
    if len(key) != KEY_SIZE:
        raise GenesisError(f"public_key: {len(key)} bytes; it has {KEY_SIZE}")
    return key
