"""A validator of the hub signals the regions whose genesis files stand in its folder, until they are registered."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.ledger.errors import TransactionRefused
from coordinator.ledger.receipt import DONE
from coordinator.ledger.registry import CURRENT, committee
from coordinator.service.errors import ServiceError
from coordinator.service.final_chain import FinalChain
from coordinator.service.home import Home
from coordinator.service.log import Log
from coordinator.service.own_transactions import Transactions
from coordinator.settlement.escrow.finalized import hub_books
from coordinator.settlement.escrow.handlers import has_signalled
from coordinator.settlement.escrow.registration import Registration, registration_of


def regions_of(home: Home, hub_chain_id: bytes) -> tuple[Registration, ...]:
    """The regions of a hub whose genesis files are in a folder. Raises ConfigurationError."""
    names = sorted(path.parent.name for path in (home.path / "chains").glob("*/genesis.json"))
    found = [registration_of(home.genesis(name), hub_chain_id) for name in names]
    return tuple(region for region in found if region is not None)


async def register(
    hub: FinalChain, own: Transactions, validator: str, regions: Sequence[Registration], log: Log
) -> None:
    """Done once all are registered or refused."""
    for region in regions:
        while not _is_registered(hub, region, log):
            coming = hub.new_block
            if _has_to_signal(hub, region, validator) and not await _signal(own, region, log):
                break
            if not _is_registered(hub, region, log):
                await coming.wait()


def _has_to_signal(hub: FinalChain, region: Registration, validator: str) -> bool:
    seated = validator in committee(hub.told.view, CURRENT).names
    return seated and not has_signalled(hub_books(hub.told), region.content, validator)


async def _signal(own: Transactions, region: Registration, log: Log) -> bool:
    """Whether to go on waiting. That the name is taken is no failure: others may have registered it meanwhile."""
    try:
        receipt = (await own.submit("escrow_region", region.content)).receipt
    except (TransactionRefused, ServiceError) as error:
        log.warning("signal failed", region=region.region, reason=str(error))
        return True
    if receipt.code in (DONE, "name_taken"):
        log.info("region signalled", region=region.region)
        return True
    log.error("region refused", region=region.region, code=receipt.code, reason=receipt.detail)
    return False


def _is_registered(hub: FinalChain, region: Registration, log: Log) -> bool:
    """Whether the hub knows a region of this name, whatever its chain: then there is nothing to signal."""
    entry = hub_books(hub.told).region(region.region)
    if entry is not None and entry.chain_id != region.chain_id:
        known, here = entry.chain_id.hex(), region.chain_id.hex()
        log.error(
            "region is registered as another chain; compare genesis files", region=region.region, known=known, here=here
        )
    return entry is not None
