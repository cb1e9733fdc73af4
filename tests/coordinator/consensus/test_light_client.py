"""The light client: from genesis over boundary headers and certificates only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.config import Config
from coordinator.consensus.epochs import boundary_height, epoch_of, next_version
from coordinator.consensus.errors import CertificateRefused, ConflictingFinalizations
from coordinator.consensus.header import Header
from coordinator.consensus.light_client import LightClient
from coordinator.consensus.signing import SimulatedScheme, VoteKind, vote_bytes
from coordinator.consensus.validators import ValidatorSet
from tests.coordinator.consensus.support import CHAIN, SECOND, Chain, Network, simulated_chain

LENGTH = 2


def headers(chain: Chain, count: int) -> list[Header]:
    """A chain of blocks."""
    found = [chain.genesis()]
    for number in range(count):
        found.append(chain.block(found[-1], str(number).encode()))
    return found


def finalization(chain: Chain, header: Header, kind: VoteKind = VoteKind.FINALIZE, names: int = 3) -> Certificate:
    """A certificate of a header by the first validators of its epoch."""
    validators = chain.validators(header.epoch)
    message = vote_bytes(kind, CHAIN, header.epoch, 7, 6, header.digest)
    by_key = {signer.public_key: signer for signer in chain.signers}
    signatures = tuple(by_key[key].sign(message) for key in validators.public_keys[:names])
    return Certificate(kind, CHAIN, header.epoch, 7, 6, header.digest, 4, tuple(range(names)), signatures)


@pytest.fixture
def chain() -> Chain:
    return simulated_chain(4, LENGTH)


@pytest.fixture
def client(chain: Chain) -> LightClient:
    return LightClient(chain.validators(0), LENGTH, SimulatedScheme())


def test_it_walks_the_boundaries(chain: Chain, client: LightClient) -> None:
    for header in headers(chain, 8)[2::2]:
        client.advance(header, finalization(chain, header), chain.validators(header.epoch + 1))
    assert client.epoch == 4
    assert client.validators(3) == chain.validators(3)
    with pytest.raises(KeyError, match="newest known epoch is 4"):
        client.validators(5)


def test_it_verifies_any_block_of_a_known_epoch(chain: Chain, client: LightClient) -> None:
    first = headers(chain, 1)[1]
    client.verify(first, finalization(chain, first))


def test_it_walks_a_chain_that_a_network_made() -> None:
    network = Network(1, 4, epoch_length=3, fixed_delay_ns=SECOND // 4).start()
    network.run(20)
    disk = network.nodes[0].disk
    client = LightClient(network.chain.validators(0), 3, SimulatedScheme())
    for height in range(3, len(disk.headers), 3):
        header = disk.headers[height]
        client.advance(header, disk.finalizations[height], network.chain.validators(header.epoch + 1))
    assert client.epoch >= 5


@pytest.mark.parametrize("kind", [VoteKind.NOTARIZE])
def test_a_notarization_finalizes_nothing(chain: Chain, client: LightClient, kind: VoteKind) -> None:
    boundary = headers(chain, 2)[2]
    with pytest.raises(CertificateRefused, match="finalizes nothing"):
        client.advance(boundary, finalization(chain, boundary, kind), chain.validators(1))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("middle", "not the last of epoch"),
        ("ahead", "the next boundary is that of epoch 0"),
        ("other block", "another block"),
        ("other next", "other next validators"),
        ("other epoch's next", "another chain or epoch"),
        ("few", "not a quorum"),
        ("validators", "other validators"),
        ("height", "not in epoch"),
    ],
)
def test_it_refuses(chain: Chain, client: LightClient, case: str, reason: str) -> None:
    blocks = headers(chain, 4)
    boundary, coming = blocks[2], chain.validators(1)
    proof = finalization(chain, boundary)
    if case == "middle":
        boundary, proof = blocks[1], finalization(chain, blocks[1])
    elif case == "ahead":
        boundary, proof, coming = blocks[4], finalization(chain, blocks[4]), chain.validators(2)
    elif case == "other block":
        proof = finalization(chain, blocks[1])
    elif case == "other next":
        coming = ValidatorSet(CHAIN, 1, coming.public_keys[::-1])
    elif case == "other epoch's next":
        coming = chain.validators(2)
    elif case == "few":
        proof = finalization(chain, boundary, names=2)
    elif case == "validators":
        boundary = replace(boundary, validators_root=bytes(32))
        proof = finalization(chain, boundary)
    else:
        boundary = replace(boundary, height=3)
        proof = finalization(chain, boundary)
        with pytest.raises(CertificateRefused, match=reason):
            client.verify(boundary, proof)
        return
    with pytest.raises(CertificateRefused, match=reason):
        client.advance(boundary, proof, coming)
    assert client.epoch == 0


def test_it_reports_conflicting_finalizations_and_who_signed_both(chain: Chain, client: LightClient) -> None:
    genesis = chain.genesis()
    one, other = chain.block(genesis, b"one"), chain.block(genesis, b"other")
    client.verify(one, finalization(chain, one, names=4))
    client.verify(one, finalization(chain, one))
    with pytest.raises(ConflictingFinalizations) as caught:
        client.verify(other, finalization(chain, other))
    assert caught.value.signers == (0, 1, 2)


def test_its_memory_is_bounded() -> None:
    chain = simulated_chain(4, 1_000)
    client = LightClient(chain.validators(0), 1_000, SimulatedScheme())
    for header in headers(chain, 600)[1:]:
        client.verify(header, finalization(chain, header))
    assert len(client._seen) <= 257


@pytest.mark.parametrize(("height", "epoch"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_epochs_by_height(height: int, epoch: int) -> None:
    assert epoch_of(height, 2) == epoch
    assert boundary_height(epoch, 2) == 2 * epoch + 2


@pytest.mark.parametrize(
    ("signals", "version"), [([], 1), ([2, 2], 1), ([2, 2, 2], 2), ([3, 3, 3], 2), ([1, 1, 2, 2], 1)]
)
def test_a_version_is_activated_by_a_quorum_one_at_a_time(signals: list[int], version: int) -> None:
    assert next_version(1, signals, quorum=3) == version


def test_delays_grow_to_the_cap() -> None:
    config = Config(SECOND, 10, delta_cap_ns=3 * SECOND)
    assert config.deltas_ns[0] == SECOND
    assert config.deltas_ns[-1] == 3 * SECOND
    assert all(after > before for before, after in zip(config.deltas_ns, config.deltas_ns[1:], strict=False))


@pytest.mark.parametrize("change", [{"delta_ns": 0}, {"epoch_length": 0}, {"growth": (1, 1)}])
def test_impossible_configurations(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Config(**{"delta_ns": 1, "epoch_length": 1, **change})  # type: ignore[arg-type]
