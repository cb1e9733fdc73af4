"""What a gateway leaves out of its devices' readings, and that the others are not held up by it."""

from __future__ import annotations

from dataclasses import replace

from actors.cluster.reading_intake import ReadingIntake
from coordinator.consensus.signing import Ed25519Signer
from coordinator.ledger.readings import Column, SignedColumn, sign_column

CHAIN, HOUR_S, NOW_S = bytes(32), 3600, 10**9
START_S = NOW_S // HOUR_S * HOUR_S - 10 * HOUR_S
SIGNERS = {name: Ed25519Signer(name.encode().ljust(32, b".")) for name in ("m", "m.1", "m.10")}


def intake() -> ReadingIntake:
    keys = {name: signer.public_key for name, signer in SIGNERS.items()}
    return ReadingIntake(CHAIN, keys.get)


def column(device: str, hour: int, register_wh: int) -> SignedColumn:
    start_s = START_S + hour * HOUR_S
    content = Column(device, start_s, HOUR_S, 0, ((start_s + HOUR_S) * 1000,), (register_wh,))
    return sign_column(SIGNERS[device], CHAIN, content)


def test_a_register_that_shrinks_or_is_a_sentinel_is_left_out_and_the_others_pass() -> None:
    gateway = intake()
    gateway.delivered([column("m", 0, 500), column("m.1", 0, 500)])
    passed, refused = gateway.sift([column("m", 1, 400), column("m.1", 1, 2**32 - 1), column("m.10", 1, 5)], NOW_S)
    assert [signed.column.device for signed in passed] == ["m.10"]
    assert [one.device for one in refused] == ["m", "m.1"]
    assert "runs backwards" in refused[0].reason
    assert "sentinel" in refused[1].reason


def test_a_device_that_was_refused_may_come_back_with_what_is_right() -> None:
    gateway = intake()
    gateway.delivered([column("m", 0, 500)])
    assert gateway.sift([column("m", 1, 400)], NOW_S)[0] == ()
    assert len(gateway.sift([column("m", 2, 700)], NOW_S)[0]) == 1


def test_what_was_delivered_is_not_sent_again() -> None:
    gateway = intake()
    gateway.delivered([column("m", 0, 500)])
    passed, refused = gateway.sift([column("m", 0, 500)], NOW_S)
    assert not passed
    assert "delivered before" in refused[0].reason


def test_the_device_that_a_node_names_is_found_and_its_signature_checked_from_then_on() -> None:
    gateway = intake()
    columns = [column("m", 0, 1), column("m.1", 0, 1), column("m.10", 0, 1)]
    named = gateway.blamed(columns, "failed_precondition: m.1: the signature is not the device's for this chain")
    assert [one.device for one in named] == ["m.1"]
    forged = replace(column("m.1", 1, 2), signature=bytes(64))
    passed, refused = gateway.sift([forged, column("m", 1, 2)], NOW_S)
    assert [signed.column.device for signed in passed] == ["m"]
    assert "signature" in refused[0].reason


def test_one_wrong_signature_that_a_node_names_finds_all_others() -> None:
    gateway = intake()
    forged = [replace(column(name, 0, 1), signature=bytes(64)) for name in ("m", "m.1")]
    columns = [forged[0], column("m.10", 0, 1), forged[1]]
    named = gateway.blamed(columns, "failed_precondition: m.1: the signature is not the device's for this chain")
    assert [one.device for one in named] == ["m", "m.1"]
    assert all("signature" in one.reason for one in named)
    passed, _ = gateway.sift(columns, NOW_S)
    assert [signed.column.device for signed in passed] == ["m.10"]


def test_a_refusal_that_is_about_no_device_blames_none() -> None:
    assert intake().blamed([column("m", 0, 1)], "resource_exhausted: too much at once") == []
