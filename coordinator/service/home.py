"""A node's folder: what `init` writes for one organization and `serve` runs.

node.yaml                       this file's `NodeSettings`
keys/validator.key              Ed25519, the consensus key
keys/participant.key            Ed25519, signs the organization's transactions
tls/node.key, tls/node.pem      what the node shows to others; replaced in place, taken up without a restart
tls/gateway.key, .pem           for programs that submit;    tls/auditor.key, .pem    for those that only read
tls/authority.pem, tls/revoked.pem
chains/<name>/genesis.json, ledger.sqlite, consensus.journal, sign.guard, batches.sqlite, index.sqlite
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from coordinator.consensus.config import Config
from coordinator.consensus.errors import DecodeError
from coordinator.ledger.genesis import Genesis, decode_genesis
from coordinator.service.errors import ConfigurationError
from coordinator.service.identity import Credentials, read_revocations

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$")]
NODE = "node"
_MS = 1_000_000
_STANDS_DELAYS = 30
_Settings = TypeVar("_Settings", bound=BaseModel)


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pace(Strict):
    """Times of a chain, in milliseconds: the same for all its validators, though nothing breaks if they differ."""

    delay_ms: Annotated[int, Field(ge=1, le=60_000)] = 250
    """The network delay that timeouts start from."""
    heartbeat_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 1_000
    """How long a leader without transactions waits before it makes an empty block."""
    minimum_interval_ms: Annotated[int, Field(ge=0, le=60_000)] = 0
    block_transactions: Annotated[int, Field(ge=1, le=10_000)] = 500

    @property
    def stands_after_s(self) -> float:
        """A chain that has finalized nothing for so long does not finalize."""
        limit_ms = 3 * max(self.heartbeat_ms, self.minimum_interval_ms) + _STANDS_DELAYS * self.delay_ms
        return max(3.0, limit_ms / 1000)

    def config(self, epoch_length: int, versions: Sequence[int]) -> Config:
        """For the core of software that speaks these protocol versions."""
        return Config(
            self.delay_ms * _MS,
            epoch_length,
            heartbeat_ns=self.heartbeat_ms * _MS,
            minimum_interval_ns=self.minimum_interval_ms * _MS,
            lowest_version=min(versions),
            highest_version=max(versions),
        )


class ChainSettings(Strict):
    """A chain that this node validates, or follows."""

    name: Name
    pace: Pace = Pace()


class PeerSettings(Strict):
    """Another node of the consortium, and how to reach it."""

    name: Name
    organization: Name
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    address: str


class NodeSettings(Strict):
    """node.yaml."""

    name: Name
    organization: Name
    listen: str
    metrics: str = ""
    """HOST:PORT of the Prometheus page, plain HTTP: keep it on loopback. Empty: none."""
    chains: tuple[ChainSettings, ...]
    follows: tuple[ChainSettings, ...] = ()
    """Chains without a seat of this node that it needs the final blocks of: a region's validator follows the hub."""
    peers: tuple[PeerSettings, ...] = ()

    @model_validator(mode="after")
    def _check_chains(self) -> Self:
        both = {chain.name for chain in self.chains} & {chain.name for chain in self.follows}
        if both:
            raise ValueError(f"chain {min(both)} stands under chains and follows; a seat is under chains alone")
        return self


class Home:
    """A node's folder that has been read."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError."""
        self.path = path
        self.settings = read_settings(path / "node.yaml", NodeSettings)

    @property
    def validator_key(self) -> Path:
        """File of the consensus key."""
        return self.path / "keys" / "validator.key"

    def chain_folder(self, chain: str) -> Path:
        """Where a chain's files are."""
        return self.path / "chains" / chain

    def genesis(self, chain: str) -> Genesis:
        """The genesis document of a chain. Raises ConfigurationError."""
        path = self.chain_folder(chain) / "genesis.json"
        try:
            return decode_genesis(path.read_bytes())
        except (OSError, DecodeError) as error:
            raise ConfigurationError(f"{path}: {error}; copy the consortium's genesis file there") from None

    def credentials(self, who: str = NODE) -> Credentials:
        """TLS key and certificates as they are on disk now. Raises ConfigurationError."""
        folder = self.path / "tls"
        try:
            mode = stat.S_IMODE((folder / f"{who}.key").stat().st_mode)
            parts = [(folder / name).read_bytes() for name in (f"{who}.key", f"{who}.pem", "authority.pem")]
        except OSError as error:
            raise ConfigurationError(f"{error.filename}: {error.strerror}; is this a node's folder?") from None
        if mode & 0o077:
            raise ConfigurationError(f"{folder / who}.key: mode {mode:04o}, others may read the key; chmod 600 it")
        return Credentials(*parts)

    def revoked(self, authority: bytes) -> frozenset[int]:
        """Serial numbers of revoked certificates; none where there is no list."""
        return self.read_revoked(self.path / "tls" / "revoked.pem", authority)

    @staticmethod
    def read_revoked(path: Path, authority: bytes) -> frozenset[int]:
        """Serial numbers in a file that the authority has signed; none where there is no file."""
        return read_revocations(path.read_bytes(), authority) if path.is_file() else frozenset()


def read_settings(path: Path, kind: type[_Settings]) -> _Settings:
    """A YAML file, checked. Raises ConfigurationError, which names the key."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path}: {where or 'the file'}: {first['msg']}") from None
