"""Registration and new keys: who sees a possession signature on its way cannot use it for himself."""

from __future__ import annotations

from coordinator.ledger import registry
from coordinator.ledger.envelope import Holder, KeyClaim, prove_possession
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
