"""A shard of a region's devices, interval after interval: they offer, are instructed, operate and sign.

The devices' clock is the interval that comes next. In each, in this order: `offers`, `instruct` (any number of orders),
`operate`. What is not instructed is uncontrolled: units inject what is not up for sale, loads withdraw their demand,
batteries rest.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np

from actors.fleet.devices import devices_of
from actors.fleet.orders import (
    Dispatch,
    DispatchOrder,
    Instruction,
    InstructionRefused,
    Reason,
    Refusal,
    check_due,
    refusals,
    verified_dispatch,
    verified_power_w,
)
from actors.fleet.plan import FleetError, FleetPlan
from actors.fleet.readings import Meters
from actors.fleet.resources import Resources
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.envelope import Holder, KeyClaim, prove_possession
from coordinator.ledger.genesis import Genesis
from coordinator.ledger.readings import BATCH_COLUMNS_MAX, MeterBatch
from coordinator.settlement.interval.schedules import Offers
from coordinator.settlement.interval.topics import Interval
from protos.gridaccord.v1 import ledger_pb2 as pb

_NEVER_S = -1


class Fleet:
    """Devices of a plan that trust one genesis: the one of their region's chain."""

    def __init__(self, plan: FleetPlan, genesis: Genesis) -> None:
        """As in `make`."""
        self._plan = plan
        self._genesis = genesis
        self._scheme = Ed25519Scheme()
        self._devices = devices_of(plan)
        self._meters = Meters(plan, self._devices)
        self._resources = Resources(plan)
        names = self._resources.names
        self._place = {name: place for place, name in enumerate(names)}
        self._obeyed_s = np.full(len(names), _NEVER_S, dtype=np.int64)
        self._told_w = np.zeros(len(names), dtype=np.int64)

    @staticmethod
    def make(plan: FleetPlan, genesis: Genesis) -> Fleet:
        """New devices before the plan's first interval. Raises FleetError for more than a batch has columns."""
        if plan.meters > BATCH_COLUMNS_MAX:
            problem = f"{plan.meters} meters, and a batch of readings has at most {BATCH_COLUMNS_MAX} columns"
            raise FleetError(f"fleet of {plan.region}: {problem}; cut the plan into shards")
        return Fleet(plan, genesis)

    @property
    def coming(self) -> Interval | None:
        """The interval that is operated next, None when the plan is over."""
        return self._resources.coming

    @property
    def stored_wh(self) -> dict[str, float]:
        """State of charge by battery."""
        return self._resources.stored_wh

    def registrations(self) -> list[pb.NewDevice]:
        """Of every device, for its owner's transactions, with proof that it has its key."""
        return [self._registration(device) for device in range(self._devices.count)]

    def _registration(self, device: int) -> pb.NewDevice:
        name, owner, chain_id = self._devices.names[device], self._plan.owner, self._genesis.chain_id
        claim = KeyClaim(Holder.DEVICE, name, owner, owner)
        signer = self._meters.signers[device]
        possession = prove_possession(signer, chain_id, claim)
        return pb.NewDevice(device=name, public_key=signer.public_key, possession=possession)

    def offers(self, interval: Interval) -> Offers:
        """Curves of all resources for the coming interval. Raises FleetError for another one."""
        return self._resources.offers(interval)

    def instruct(self, order: DispatchOrder) -> list[Refusal]:
        """Give devices an order; they obey it in the coming interval, or keep what they had and say why."""
        try:
            dispatch = verified_dispatch(order, self._genesis, self._scheme)
        except InstructionRefused as error:
            return refusals(order, error)
        refused = []
        for instruction in order.instructions:
            try:
                self._obey(instruction, dispatch)
            except InstructionRefused as error:
                refused.append(Refusal(instruction.resource, error.reason, str(error)))
        return refused

    def _obey(self, instruction: Instruction, dispatch: Dispatch) -> None:
        name = instruction.resource
        place = self._place.get(name)
        if place is None:
            raise InstructionRefused(Reason.UNKNOWN, f"{name} is not in this fleet")
        power_w = verified_power_w(instruction, dispatch)
        check_due(dispatch.interval, self.coming, int(self._obeyed_s[place]))
        curve = self._resources.curve(name)
        if not curve.lowest_w <= power_w <= curve.highest_w:
            raise InstructionRefused(Reason.BEYOND_OFFER, f"{power_w} W; {curve.lowest_w} to {curve.highest_w} W")
        self._obeyed_s[place] = dispatch.interval.start_s
        self._told_w[place] = power_w

    def operate(self, interval: Interval) -> MeterBatch | None:
        """The coming interval passes: energy flows, registers grow, meters sign. None where all meters are late.

        The first columns begin with each register as it was when the first interval began. Raises FleetError for an
        interval other than the coming one.
        """
        self._resources.check_coming(interval)
        power_w = np.where(self._obeyed_s == interval.start_s, self._told_w, self._resources.idle_w())
        self._resources.operate(interval, power_w)
        measured_w = self._devices.power_w(power_w, interval.duration_s)
        return self._meters.measure(measured_w, interval, self._genesis.chain_id)

    def snapshot(self) -> bytes:
        """All that the plan does not say: registers, states of charge, instructions. No keys."""
        state = {**self._meters.state(), **self._resources.state()}
        state["plan"] = np.frombuffer(self._plan.digest, dtype=np.int64)
        state["obeyed_s"], state["told_w"] = self._obeyed_s, self._told_w
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **state)
        return file.getvalue()

    @staticmethod
    def restore(plan: FleetPlan, genesis: Genesis, data: bytes) -> Fleet:
        """A fleet as it was at a snapshot. Raises FleetError for one of another plan."""
        fleet = Fleet.make(plan, genesis)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as found:
                state = dict(found)
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise FleetError(f"snapshot: it cannot be read ({error}); begin anew or take an older one") from None
        if "plan" not in state or state.pop("plan").tobytes() != plan.digest:
            raise FleetError("snapshot: it is of another plan; resume with the scenario and shards it was taken with")
        fleet._resources.resume(int(state.pop("operated")[0]), state.pop("stored").tolist())
        fleet._obeyed_s, fleet._told_w = state.pop("obeyed_s"), state.pop("told_w")
        fleet._meters.resume(state)
        return fleet
