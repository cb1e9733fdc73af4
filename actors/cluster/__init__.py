"""The actors of a run: validators, regional gateways, device fleets.

node_thread      a validator process's node, in a thread with an event loop of its own
node_calls       a gateway's calls to the consortium's nodes, one after the other where one does not answer
region_gateway   one region through an interval: offers in, gate closed, schedule out to devices, readings in
fleet_handle     what a gateway asks of a fleet, wherever it is
ray_actors       ValidatorHost, RegionActor, DeviceFleet
connection       of this process to a Ray cluster
ray_backend      places, supervises and restarts them
local_backend    the same parts in one process, without Ray

Votes and everything between regions travel over the coordinator service, with TLS; Ray carries columns of offers and
readings between a fleet and its gateway, and nothing that a validator relies on.
"""
