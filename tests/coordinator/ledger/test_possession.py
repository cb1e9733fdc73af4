"""Registration and new keys: who sees a possession signature on its way cannot use it for himself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.signing import Ed25519Signer
from coordinator.ledger import registry
from coordinator.ledger.envelope import Holder, KeyClaim, prove_possession
from coordinator.ledger.errors import Rejected
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.coordinator.ledger.support import Chain, codes


def test_a_new_key_cannot_be_taken_by_one_who_sees_its_signature_first() -> None:
    chain = Chain()
    claim = KeyClaim(Holder.DEVICE, "meter-new", "alice", "alice")
    signature = prove_possession(chain.signer("meter-new"), chain.chain_id, claim)
    seen = pb.NewDevice(device="meter-new", public_key=chain.key("meter-new"), possession=signature)
    tries = [("bob", "bob"), ("bob", "alice"), ("alice", "bob")]
    for signer, account in tries:
        seen.account = account
        stolen = chain.transaction(signer, "register_device", seen.SerializeToString())
        assert codes(chain.add(stolen)) == ["no_possession"]
    seen.account = ""
    assert codes(chain.add(chain.transaction("alice", "register_device", seen.SerializeToString()))) == [""]


def test_a_key_on_its_way_to_a_participant_does_not_become_a_device_s() -> None:
    chain = Chain()
    claim = KeyClaim(Holder.PARTICIPANT, "alice", "alice")
    signature = prove_possession(chain.signer("alice-2"), chain.chain_id, claim)
    key = chain.key("alice-2")
    device = pb.NewDevice(device="alice", public_key=key, possession=signature).SerializeToString()
    rotation = pb.NewKey(public_key=key, possession=signature).SerializeToString()
    assert codes(
        chain.add(
            chain.transaction("bob", "register_device", device),
            chain.transaction("alice", "register_device", device),
            chain.transaction("alice", "rotate_key", rotation, ahead=1),
        )
    ) == ["no_possession", "no_possession", ""]


def test_participants_and_devices_are_registered() -> None:
    chain = Chain()
    new = pb.NewParticipant(
        participant="dora",
        public_key=chain.key("dora"),
        possession=prove_possession(chain.signer("dora"), chain.chain_id, KeyClaim(Holder.PARTICIPANT, "dora", "v1")),
    ).SerializeToString()
    assert codes(chain.add(chain.transaction("alice", "register_participant", new))) == ["not_validator"]
    assert codes(chain.add(chain.transaction("v2", "register_participant", new))) == ["no_possession"]
    assert codes(chain.add(chain.transaction("v1", "register_participant", new))) == [""]
    device = pb.NewDevice(
        device="pv-d",
        public_key=chain.key("pv"),
        possession=prove_possession(
            chain.signer("pv"), chain.chain_id, KeyClaim(Holder.DEVICE, "pv-d", "dora", "dora")
        ),
    ).SerializeToString()
    assert codes(chain.add(chain.transaction("dora", "register_device", device))) == [""]
    found = registry.device_of(chain.state.view, "pv-d")
    assert found is not None
    assert (found.owner, found.account) == ("dora", "dora")
    assert codes(chain.add(chain.transaction("dora", "register_device", device))) == ["name_taken"]
    rotate = pb.NewKey(device="pv-d", public_key=b"x" * 32, possession=bytes(64)).SerializeToString()
    assert codes(chain.add(chain.transaction("bob", "rotate_device_key", rotate))) == ["not_owner"]


_FIELD = 2**255 - 19
_ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
_SMALL_ORDER_Y = [
    0,
    1,
    _FIELD - 1,
    _FIELD,
    _FIELD + 1,
    *(
        int.from_bytes(bytes.fromhex(key), "little")
        for key in (_ORDER_8, "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
    ),
]


@pytest.mark.parametrize("sign", [0, 1 << 255])
@pytest.mark.parametrize("y", _SMALL_ORDER_Y)
def test_a_key_for_which_anyone_can_sign_is_refused(y: int, sign: int) -> None:
    key = (y | sign).to_bytes(32, "little")
    with pytest.raises(Rejected, match="small order"):
        registry.rotate_key(Chain().state.view, "bob", key)


def test_the_identity_signs_for_nobody() -> None:
    """By the equation alone this signature, which needs no private key, is valid for every message."""
    chain, key, signature = Chain(), bytes([1]) + bytes(31), bytes([1]) + bytes(63)
    assert not chain.scheme.verify(key, b"anything", signature)
    rotation = pb.NewKey(public_key=key, possession=signature).SerializeToString()
    assert codes(chain.add(chain.transaction("bob", "rotate_key", rotation))) == ["no_possession"]


@given(st.binary(min_size=32, max_size=32))
def test_real_keys_are_no_points_of_small_order(seed: bytes) -> None:
    assert not registry.has_small_order(Ed25519Signer(seed).public_key)
