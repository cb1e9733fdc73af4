"""What `init` writes for a hub and its regions, and which consortium files it refuses."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from coordinator.consensus.signing import Ed25519Scheme, Ed25519Signer
from coordinator.ledger import accounts
from coordinator.ledger.errors import GenesisError
from coordinator.ledger.genesis import Genesis, decode_genesis, encode_genesis, machine_of, start
from coordinator.ledger.keys import load_key
from coordinator.ledger.registry import CURRENT, committee, participant_of
from coordinator.service.consortium import Consortium, found
from coordinator.service.errors import ConfigurationError
from coordinator.service.home import Home, read_settings
from coordinator.service.modules import MODULES
from coordinator.settlement.escrow.finalized import hub_books, region_books
from coordinator.settlement.escrow.registration import registration_of

NAMES = ("alpha", "beta", "gamma", "delta")
NOW = datetime.datetime.now(datetime.UTC)
ASSETS = [{"name": "EUR", "issuer": "alpha"}]
HUB = {"name": "middle", "role": "hub", "epoch_length": 70}
NORTH = {"name": "north", "role": "region", "assets": ASSETS, "limits": {"EUR": 500}, "openers": ["beta"]}
SOUTH = {"name": "south", "role": "region", "assets": ASSETS, "validators": ["alpha", "beta"]}


def made(folder: Path, *chains: dict[str, Any]) -> Path:
    content = {
        "name": "test",
        "organizations": [{"name": name, "address": f"127.0.0.1:{place}"} for place, name in enumerate(NAMES, 7001)],
        "chains": list(chains),
    }
    path = folder / "consortium.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    found(read_settings(path, Consortium), folder / "made", NOW)
    return folder / "made"


def started(genesis: Genesis) -> Any:
    return start(genesis, machine_of(genesis, MODULES, Ed25519Scheme()))


def test_a_region_follows_the_hub_wherever_it_stands_in_the_file(tmp_path: Path) -> None:
    folder = made(tmp_path, NORTH, SOUTH, HUB)
    home = Home(folder / "gamma")
    hub, north = home.genesis("middle"), home.genesis("north")
    books = region_books(started(north))
    assert (books.region, books.hub_chain_id) == ("north", hub.chain_id)
    assert books.chains.validators(hub.chain_id, 0).public_keys == hub.validators.public_keys
    parameters = hub_books(started(hub)).parameters
    assert 1 < parameters.window_min_blocks < parameters.netting_window_blocks < parameters.window_max_blocks


def test_every_seat_of_the_hub_gets_what_it_needs_to_register_all_regions(tmp_path: Path) -> None:
    folder = made(tmp_path, HUB, NORTH, SOUTH)
    for name in NAMES:
        home = Home(folder / name)
        hub = home.genesis("middle")
        south = registration_of(home.genesis("south"), hub.chain_id)
        north = registration_of(home.genesis("north"), hub.chain_id)
        assert north is not None
        assert south is not None
        assert (north.region, south.region) == ("north", "south")
        assert registration_of(hub, hub.chain_id) is None
        assert registration_of(home.genesis("north"), bytes(32)) is None
        validates = [chain.name for chain in home.settings.chains]
        assert validates == (["middle", "north", "south"] if name in ("alpha", "beta") else ["middle", "north"])


def test_who_has_a_seat_of_a_region_alone_follows_the_hub_and_gets_no_more_of_it_than_that_needs(
    tmp_path: Path,
) -> None:
    hub = {**HUB, "validators": ["alpha", "beta", "delta"]}
    folder = made(tmp_path, hub, {**NORTH, "validators": ["beta", "gamma"]}, SOUTH, {"name": "aside"})
    gamma, beta, delta = (Home(folder / name) for name in ("gamma", "beta", "delta"))
    assert [chain.name for chain in gamma.settings.chains] == ["north", "aside"]
    assert [chain.name for chain in gamma.settings.follows] == ["middle"]
    assert not beta.settings.follows + delta.settings.follows
    assert sorted(path.name for path in (gamma.path / "chains").iterdir()) == ["aside", "middle", "north"]
    view = started(gamma.genesis("middle")).view
    follower = participant_of(view, "gamma-validator")
    assert follower is not None, "it may bring proofs of its region before the hub"
    assert follower.public_key == load_key(gamma.validator_key).public_key
    assert committee(view, CURRENT).names == ("alpha-validator", "beta-validator", "delta-validator")
    assert participant_of(started(beta.genesis("north")).view, "delta-validator") is None


def test_a_chain_is_validated_or_followed(tmp_path: Path) -> None:
    folder = made(tmp_path, {**HUB, "validators": ["alpha"]}, {**NORTH, "validators": ["gamma"]}) / "gamma"
    settings = yaml.safe_load((folder / "node.yaml").read_text(encoding="utf-8"))
    settings["chains"] += settings["follows"]
    (folder / "node.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="chain middle stands under chains and follows"):
        Home(folder)


def test_the_neutral_account_is_usable_and_nobodys(tmp_path: Path) -> None:
    genesis = Home(made(tmp_path, HUB, NORTH) / "alpha").genesis("north")
    view = started(genesis).view
    assert accounts.available(view, "neutral", "EUR") == 500
    accounts.lock(view, b"netting", "EUR", "neutral", 500)
    owner = participant_of(view, "neutral")
    assert owner is not None
    assert not Ed25519Scheme().verify(owner.public_key, b"pay", bytes(64))
    key = {"name": "neutral", "public_key": Ed25519Signer(bytes(range(32))).public_key.hex()}
    taken = encode_genesis({**genesis.content, "participants": [*genesis.content["participants"], key]})  # type: ignore[misc]
    with pytest.raises(GenesisError, match="neutral is in use"):
        started(decode_genesis(taken))


@pytest.mark.parametrize(
    ("chains", "reason"),
    [
        ((NORTH,), "north is a region and there is no hub"),
        ((HUB, {**HUB, "name": "second"}), "middle and second are both the hub"),
        ((HUB, {"name": "north", "limits": {"EUR": 1}}), "limits and openers are a region's"),
        (({**HUB, "openers": ["beta"]},), "limits and openers are a region's"),
        ((HUB, {**NORTH, "escrow": {"window_min": 1, "window_max": 2, "netting_window": 1}}), "windows are the hub's"),
        ((HUB, {**NORTH, "openers": ["nobody"]}), "opener nobody is no organization"),
        ((HUB, {**NORTH, "limits": {"GBP": 1}}), "chain north.*GBP"),
        ((HUB, {**NORTH, "modules": {"escrow_region": {}}}), "leave it out"),
        ((HUB, {**NORTH, "name": "hub"}), "chain hub"),
        (({**HUB, "role": "centre"},), "chains.0.role"),
        (({**HUB, "windows": 3},), "windows"),
    ],
)
def test_a_role_that_cannot_be_is_refused_and_named(tmp_path: Path, chains: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        made(tmp_path, *chains)
    assert not (tmp_path / "made").exists()
