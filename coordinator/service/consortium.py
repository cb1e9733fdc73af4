"""Makes the folders of a consortium: keys, authority, certificates and genesis files, one folder an organization.

    name: northern
    organizations:
      - {name: alpha, address: "127.0.0.1:7101", metrics: "127.0.0.1:7201"}
      - ...
    chains:
      - name: hub
        validators: [alpha, beta, gamma, delta]       # all organizations where it is left out
        epoch_length: 1000
        pace: {delay_ms: 250, heartbeat_ms: 1000}
        assets: [{name: EUR, issuer: alpha}]
        accounts: [{owner: alpha, asset: EUR, balance: 1000000000}]
    certificate_days: 398

An organization has two keys: `validator.key` votes, `participant.key` signs its transactions. On a chain they are the
participants `<organization>-validator` and `<organization>`. What a chain's `role` adds is in `roles.py`.

An organization with a seat of a region and none of the hub follows the hub: it gets the hub's genesis file and the
public part of the grid, and is a participant of the hub that can relay what its region says.
"""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.signing import Ed25519Scheme, Ed25519Signer
from coordinator.ledger.errors import GenesisError
from coordinator.ledger.genesis import FORMAT, Genesis, decode_genesis, encode_genesis, machine_of, start
from coordinator.ledger.keys import create_key, load_key
from coordinator.service.errors import ConfigurationError
from coordinator.service.home import ChainSettings, Home, Name, NodeSettings, Pace, PeerSettings, Strict
from coordinator.service.identity import (
    Authority,
    Credentials,
    Role,
    certificate_pem,
    issue,
    key_pem,
    load_authority,
    make_authority,
    make_revocations,
    read_identity,
)
from coordinator.service.interval_founding import Founding, IntervalSettings, cut_grid
from coordinator.service.modules import MODULES
from coordinator.service.roles import (
    ESCROW_MODULES,
    ChainRole,
    ChainSettlement,
    Sections,
    Windows,
    check_roles,
    hub_sections,
    region_sections,
    windows,
)

AUTHORITY = "authority"
_AUTHORITY_DAYS = 3650
_NODE_ROLES = (Role.VALIDATOR, Role.COORDINATOR)
_CLIENTS = {"gateway": (Role.GATEWAY,), "auditor": (Role.AUDITOR,)}


class Organization(Strict):
    """Who runs a node, and where the others reach it."""

    name: Name
    address: str
    listen: str = ""
    """Where the node listens, if that is not its address."""
    metrics: str = ""


class AssetSettings(Strict):
    """What money is counted in."""

    name: str
    issuer: str = ""


class AccountSettings(Strict):
    """Money at genesis, in micro-units."""

    owner: str
    asset: str
    balance: int = 0
    credit_limit: int = 0


class DeviceSettings(Strict):
    """A device that is there from the beginning; others are registered by transactions."""

    name: str
    owner: str
    account: str
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ConsortiumChain(ChainSettlement):
    """A chain, the organizations that validate it, and its role between regions."""

    name: Name
    validators: tuple[Name, ...] = ()
    epoch_length: Annotated[int, Field(ge=1)] = 10_000
    pace: Pace = Pace()
    assets: tuple[AssetSettings, ...] = ()
    accounts: tuple[AccountSettings, ...] = ()
    devices: tuple[DeviceSettings, ...] = ()
    parameters: dict[str, str] = Field(default_factory=dict)
    modules: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Parts of the state machine that this chain has beyond the core, with what each wants in genesis."""


class Consortium(Strict):
    """The file that `init` reads."""

    name: Name
    organizations: Annotated[tuple[Organization, ...], Field(min_length=1)]
    chains: Annotated[tuple[ConsortiumChain, ...], Field(min_length=1)]
    intervals: IntervalSettings | None = None
    certificate_days: Annotated[int, Field(ge=1, le=3650)] = 398

    def seats(self, chain: ConsortiumChain) -> tuple[str, ...]:
        """The organizations that validate a chain."""
        return chain.validators or tuple(organization.name for organization in self.organizations)


def found(consortium: Consortium, output: Path, now: datetime.datetime, base: Path = Path()) -> None:
    """Write everything below a folder that does not exist yet. Raises ConfigurationError.

    Paths in the consortium's settings are relative to `base`.
    """
    _check(consortium)
    founding = _founding(consortium, base)
    if output.exists():
        raise ConfigurationError(f"{output}: exists already; keys are never overwritten, choose another folder")
    unfinished = output.with_name(output.name + ".unfinished")
    if unfinished.exists():
        raise ConfigurationError(f"{unfinished}: left over from an init that was interrupted; remove it")
    try:
        unfinished.mkdir(parents=True, mode=0o700)
        _write(consortium, founding, unfinished, now)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(output)


def _check(consortium: Consortium) -> None:
    names = [organization.name for organization in consortium.organizations]
    chains = [chain.name for chain in consortium.chains]
    for what, found_names in (("organization", names), ("chain", chains)):
        twice = [name for number, name in enumerate(found_names) if name in found_names[:number]]
        if twice:
            raise ConfigurationError(f"{what} {twice[0]} stands there twice")
    if AUTHORITY in names:
        raise ConfigurationError(f"no organization can be named {AUTHORITY}")
    for chain in consortium.chains:
        unknown = [name for name in chain.validators if name not in names]
        if unknown:
            raise ConfigurationError(f"chain {chain.name}: validator {unknown[0]} is no organization")
        strange = [name for name in chain.openers if name not in names]
        if strange:
            raise ConfigurationError(f"chain {chain.name}: opener {strange[0]} is no organization")
        if chain.role is not None and any(module in chain.modules for module in ESCROW_MODULES):
            raise ConfigurationError(f"chain {chain.name}: role writes the escrow module's section; leave it out")
    check_roles({chain.name: chain for chain in consortium.chains})


def _founding(consortium: Consortium, base: Path) -> Founding | None:
    """The grid that the regions share, if they couple."""
    if consortium.intervals is None:
        return None
    regions = [chain.name for chain in consortium.chains if chain.role is ChainRole.REGION]
    if not regions:
        raise ConfigurationError("intervals: there are no regions; give chains role: hub and role: region")
    return cut_grid(consortium.intervals, base, regions, consortium.organizations[0].name)


def _write(consortium: Consortium, founding: Founding | None, output: Path, now: datetime.datetime) -> None:
    authority = make_authority(consortium.name, now, _AUTHORITY_DAYS)
    folder = output / AUTHORITY
    folder.mkdir(mode=0o700)
    write_private(folder / "authority.key", key_pem(authority.key))
    (folder / "authority.pem").write_bytes(certificate_pem(authority.certificate))
    revoked = make_revocations(authority, (), now)
    (folder / "revoked.pem").write_bytes(revoked)
    validators: dict[str, Ed25519Signer] = {}
    participants: dict[str, Ed25519Signer] = {}
    for organization in consortium.organizations:
        keys = output / organization.name / "keys"
        keys.mkdir(parents=True, mode=0o700)
        validators[organization.name] = create_key(keys / "validator.key")
        participants[organization.name] = create_key(keys / "participant.key")
    documents = _documents(consortium, founding, validators, participants, now)
    hub = next((chain for chain in consortium.chains if chain.role is ChainRole.HUB), None)
    for organization in consortium.organizations:
        home = output / organization.name
        (home / "tls").mkdir(mode=0o700)
        (home / "tls" / "revoked.pem").write_bytes(revoked)
        issue_all(authority, home, organization.name, now, consortium.certificate_days)
        seats = [chain for chain in consortium.chains if organization.name in consortium.seats(chain)]
        follows = [hub] if hub is not None and organization.name in _followers(consortium) else []
        for chain in [*seats, *follows, *_regions_to_register(consortium, seats)]:
            (home / "chains" / chain.name).mkdir(parents=True, mode=0o700)
            (home / "chains" / chain.name / "genesis.json").write_bytes(documents[chain.name])
            if founding is not None and chain in (*seats, *follows):
                _write_grid(founding, chain, home / "chains" / chain.name)
        _write_settings(consortium, organization, seats, follows, validators, home)


def issue_all(authority: Authority, home: Path, organization: str, now: datetime.datetime, days: int) -> None:
    """New TLS keys and certificates for a node and its two kinds of clients, each pair replaced at once."""
    validator, participant = (load_key(home / "keys" / f"{name}.key") for name in ("validator", "participant"))
    store_credentials(home, "node", issue(authority, validator, organization, organization, _NODE_ROLES, now, days))
    for client, roles in _CLIENTS.items():
        name = f"{organization}-{client}"
        store_credentials(home, client, issue(authority, participant, name, organization, roles, now, days))


def store_credentials(home: Path, who: str, credentials: Credentials) -> None:
    """Put a key and its certificate into a node's folder."""
    folder = home / "tls"
    (folder / "authority.pem").write_bytes(credentials.authority)
    write_private(folder / f"{who}.key.new", credentials.key)
    (folder / f"{who}.pem.new").write_bytes(credentials.certificate)
    (folder / f"{who}.key.new").replace(folder / f"{who}.key")
    (folder / f"{who}.pem.new").replace(folder / f"{who}.pem")


def write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _write_settings(
    consortium: Consortium,
    organization: Organization,
    seats: Sequence[ConsortiumChain],
    follows: Sequence[ConsortiumChain],
    validators: dict[str, Ed25519Signer],
    home: Path,
) -> None:
    peers = tuple(
        PeerSettings(
            name=other.name,
            organization=other.name,
            public_key=validators[other.name].public_key.hex(),
            address=other.address,
        )
        for other in consortium.organizations
        if other.name != organization.name
    )
    settings = NodeSettings(
        name=organization.name,
        organization=organization.name,
        listen=organization.listen or organization.address,
        metrics=organization.metrics,
        chains=tuple(ChainSettings(name=chain.name, pace=chain.pace) for chain in seats),
        follows=tuple(ChainSettings(name=chain.name, pace=chain.pace) for chain in follows),
        peers=peers,
    )
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
    (home / "node.yaml").write_text(text, encoding="utf-8")


def _write_grid(founding: Founding, chain: ConsortiumChain, folder: Path) -> None:
    """What a seat knows of the grid beside its chain."""
    if chain.role is ChainRole.HUB:
        founding.write_public(folder)
    elif chain.role is ChainRole.REGION:
        founding.write_private(chain.name, folder)


def _followers(consortium: Consortium) -> list[str]:
    """Organizations with a seat of a region and none of the hub."""
    seats = {
        role: {name for chain in consortium.chains if chain.role is role for name in consortium.seats(chain)}
        for role in ChainRole
    }
    return sorted(seats[ChainRole.REGION] - seats[ChainRole.HUB])


def _regions_to_register(consortium: Consortium, seats: Sequence[ConsortiumChain]) -> list[ConsortiumChain]:
    """Regions of others whose genesis file a seat of the hub needs to register them."""
    if not any(chain.role is ChainRole.HUB for chain in seats):
        return []
    return [chain for chain in consortium.chains if chain.role is ChainRole.REGION and chain not in seats]


def _documents(
    consortium: Consortium,
    founding: Founding | None,
    validators: dict[str, Ed25519Signer],
    participants: dict[str, Ed25519Signer],
    now: datetime.datetime,
) -> dict[str, bytes]:
    """The genesis documents by chain, the hub's first: those of regions name it."""
    found: dict[str, bytes] = {}
    hub: Genesis | None = None
    for chain in sorted(consortium.chains, key=lambda chain: chain.role is not ChainRole.HUB):
        sections: Sections = dict(chain.modules)
        if chain.role is ChainRole.HUB:
            sections |= hub_sections(chain.escrow or _windows(consortium, chain))
            sections |= founding.hub_sections() if founding is not None else {}
        elif chain.role is ChainRole.REGION:
            assert hub is not None, "where there is a region there is a hub, and it comes first"
            sections |= region_sections(chain.name, chain, hub, consortium.seats(chain))
            sections |= founding.region_sections(chain.name) if founding is not None else {}
        found[chain.name] = _genesis(consortium, chain, sections, validators, participants, now)
        if chain.role is ChainRole.HUB:
            hub = decode_genesis(found[chain.name])
    return found


def _windows(consortium: Consortium, hub: ConsortiumChain) -> Windows:
    paces = [chain.pace for chain in consortium.chains if chain.role is ChainRole.REGION]
    slowest = max(paces, key=lambda pace: (pace.delay_ms, pace.minimum_interval_ms), default=hub.pace)
    return windows(len(consortium.seats(hub)), hub.pace, slowest)


def _genesis(
    consortium: Consortium,
    chain: ConsortiumChain,
    sections: Sections,
    validators: dict[str, Ed25519Signer],
    participants: dict[str, Ed25519Signer],
    now: datetime.datetime,
) -> bytes:
    named = {name: signer.public_key.hex() for name, signer in participants.items()}
    if chain.role is ChainRole.HUB:
        named |= {f"{name}-validator": validators[name].public_key.hex() for name in _followers(consortium)}
    content = {
        "format": FORMAT,
        "name": chain.name,
        "time_ms": int(now.timestamp() * 1000),
        "version": 1,
        "epoch_length": chain.epoch_length,
        "validators": [
            {"name": f"{name}-validator", "public_key": validators[name].public_key.hex()}
            for name in consortium.seats(chain)
        ],
        "participants": [{"name": name, "public_key": key} for name, key in named.items()],
        "devices": [device.model_dump() for device in chain.devices],
        "assets": [asset.model_dump() for asset in chain.assets],
        "accounts": [account.model_dump() for account in chain.accounts],
        "parameters": chain.parameters,
        "modules": sections,
    }
    encoded = encode_genesis(content)
    try:
        genesis = decode_genesis(encoded)
        start(genesis, machine_of(genesis, MODULES, Ed25519Scheme()))
    except (GenesisError, DecodeError) as error:
        raise ConfigurationError(f"chain {chain.name}: {error}") from None
    return encoded


def renew(output: Path, organization: str, now: datetime.datetime, days: int) -> None:
    """New TLS keys and certificates for one organization. Raises ConfigurationError."""
    home = Home(output / organization)
    issue_all(_authority(output), home.path, organization, now, days)


def revoke(output: Path, certificate: Path, now: datetime.datetime) -> Path:
    """Add a certificate to the list of revoked ones, which is then to be copied to every node's `tls` folder."""
    authority = _authority(output)
    path, trusted = output / AUTHORITY / "revoked.pem", certificate_pem(authority.certificate)
    serial = read_identity(certificate.read_bytes(), trusted).serial
    before = Home.read_revoked(path, trusted)
    fresh = path.with_name("revoked.pem.new")
    fresh.write_bytes(make_revocations(authority, sorted({*before, serial}), now))
    fresh.replace(path)
    return path


def _authority(output: Path) -> Authority:
    folder = output / AUTHORITY
    try:
        return load_authority((folder / "authority.key").read_bytes(), (folder / "authority.pem").read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}; this needs the authority's folder") from None
