"""Ports for processes that start later."""

from __future__ import annotations

import socket

import pytest

from actors.ports import free_ports

_GIVEN_FROM = 32_768
"""Where Linux begins to give ports to whoever asks for any."""


def test_ports_are_free_and_apart_and_nobody_gets_one_by_accident() -> None:
    """Regression: a validator could not start in one of a dozen runs, because another process had got its port."""
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert max(ports) < _GIVEN_FROM
    for port in ports:
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))


def test_a_port_that_is_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = free_ports(1)
    monkeypatch.setattr("actors.ports._PORTS", range(first, first + 1))
    with socket.socket() as one:
        one.bind(("127.0.0.1", first))
        with pytest.raises(OSError, match=f"fewer than 1 ports are free from {first} to {first}"):
            free_ports(1)
    assert free_ports(1) == [first]


def test_an_address_of_another_machine_is_refused_at_once() -> None:
    with pytest.raises(OSError, match="assign"):
        free_ports(1, "192.0.2.1")
