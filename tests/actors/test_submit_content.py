"""Contents of transactions about intervals, as they are written on the command line."""

from __future__ import annotations

import json

import pytest

from actors.serve import encode_content
from coordinator.ledger.codec import Reader
from coordinator.service.errors import ConfigurationError
from coordinator.settlement.interval.schedules import decode_offers
from coordinator.settlement.interval.topics import Interval, read_interval

HOUR = {"start_s": 3600, "duration_s": 3600}


def test_offers_stand_in_the_order_of_their_names() -> None:
    offers = [{"resource": name, "fixed_w": -5, "steps": [[10, 20]]} for name in ("b", "a")]
    decoded = decode_offers(encode_content("interval_offers", json.dumps({**HOUR, "offers": offers})))
    assert decoded.interval == Interval(3600, 3600)
    assert [name for name, _ in decoded.curves] == ["a", "b"]
    assert decoded.curves[0][1].steps[0].price_micro_per_mwh == 20


def test_a_target_is_an_interval() -> None:
    assert read_interval(Reader(encode_content("interval_target", json.dumps(HOUR)))) == Interval(3600, 3600)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSONDecodeError"),
        ('{"duration_s": 1}', "start_s"),
        ('{"start_s": 1, "duration_s": 1, "offer": []}', "unknown key 'offer'"),
        ('{"start_s": 1, "duration_s": 1, "offers": [{"resource": "a"}]}', "fixed_w"),
        ("[]", "TypeError"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        encode_content("interval_offers", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "content of tie_outage"),
        ("[]", "it is like"),
        ('{"tie": "tie-1", "from_s": 3600}', "it is like"),
        ('{"tie": "tie-1", "from_s": 3600, "out": 1}', "it is like"),
        ('{"tie": "tie-1", "from_s": true, "out": true}', "it is like"),
        ('{"tie": "tie-1", "from_s": 3600, "out": true, "until_s": 7200}', "it is like"),
        ('{"tie": "tie-1", "from_s": -1, "out": true}', "from_s is -1"),
    ],
)
def test_what_is_wrong_with_an_outage_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        encode_content("tie_outage", text)
