from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MarketRun(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MARKET_RUN_UNSPECIFIED: _ClassVar[MarketRun]
    MARKET_RUN_DAY_AHEAD: _ClassVar[MarketRun]
    MARKET_RUN_INTRADAY: _ClassVar[MarketRun]
    MARKET_RUN_REAL_TIME: _ClassVar[MarketRun]
MARKET_RUN_UNSPECIFIED: MarketRun
MARKET_RUN_DAY_AHEAD: MarketRun
MARKET_RUN_INTRADAY: MarketRun
MARKET_RUN_REAL_TIME: MarketRun

class Interval(_message.Message):
    __slots__ = ("start_s", "duration_s", "run")
    START_S_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    start_s: int
    duration_s: int
    run: MarketRun
    def __init__(self, start_s: _Optional[int] = ..., duration_s: _Optional[int] = ..., run: _Optional[_Union[MarketRun, str]] = ...) -> None: ...

class Scope(_message.Message):
    __slots__ = ("carrier", "asset", "topology_id", "region")
    CARRIER_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    carrier: str
    asset: str
    topology_id: bytes
    region: int
    def __init__(self, carrier: _Optional[str] = ..., asset: _Optional[str] = ..., topology_id: _Optional[bytes] = ..., region: _Optional[int] = ...) -> None: ...

class BoundaryEquivalent(_message.Message):
    __slots__ = ("scope", "boundary_bus", "internal_component", "laplacian_fine", "topology_root", "topology_size", "link_end")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_BUS_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_COMPONENT_FIELD_NUMBER: _ClassVar[int]
    LAPLACIAN_FINE_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_ROOT_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_SIZE_FIELD_NUMBER: _ClassVar[int]
    LINK_END_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    boundary_bus: _containers.RepeatedScalarFieldContainer[str]
    internal_component: _containers.RepeatedScalarFieldContainer[int]
    laplacian_fine: _containers.RepeatedScalarFieldContainer[int]
    topology_root: bytes
    topology_size: int
    link_end: _containers.RepeatedCompositeFieldContainer[LinkEnd]
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., boundary_bus: _Optional[_Iterable[str]] = ..., internal_component: _Optional[_Iterable[int]] = ..., laplacian_fine: _Optional[_Iterable[int]] = ..., topology_root: _Optional[bytes] = ..., topology_size: _Optional[int] = ..., link_end: _Optional[_Iterable[_Union[LinkEnd, _Mapping]]] = ...) -> None: ...

class LinkEnd(_message.Message):
    __slots__ = ("link", "bus", "internal_component", "delivers")
    LINK_FIELD_NUMBER: _ClassVar[int]
    BUS_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_COMPONENT_FIELD_NUMBER: _ClassVar[int]
    DELIVERS_FIELD_NUMBER: _ClassVar[int]
    link: int
    bus: int
    internal_component: int
    delivers: bool
    def __init__(self, link: _Optional[int] = ..., bus: _Optional[int] = ..., internal_component: _Optional[int] = ..., delivers: _Optional[bool] = ...) -> None: ...

class OfferCommitment(_message.Message):
    __slots__ = ("scope", "intervals")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    intervals: _containers.RepeatedCompositeFieldContainer[IntervalCommitment]
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., intervals: _Optional[_Iterable[_Union[IntervalCommitment, _Mapping]]] = ...) -> None: ...

class IntervalCommitment(_message.Message):
    __slots__ = ("interval", "offers_root", "offers_size")
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    OFFERS_ROOT_FIELD_NUMBER: _ClassVar[int]
    OFFERS_SIZE_FIELD_NUMBER: _ClassVar[int]
    interval: Interval
    offers_root: bytes
    offers_size: int
    def __init__(self, interval: _Optional[_Union[Interval, _Mapping]] = ..., offers_root: _Optional[bytes] = ..., offers_size: _Optional[int] = ...) -> None: ...

class Flowgate(_message.Message):
    __slots__ = ("region", "branch", "contingency", "row_fine", "flow_min_w", "flow_max_w", "leaf", "salt", "proof")
    REGION_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    CONTINGENCY_FIELD_NUMBER: _ClassVar[int]
    ROW_FINE_FIELD_NUMBER: _ClassVar[int]
    FLOW_MIN_W_FIELD_NUMBER: _ClassVar[int]
    FLOW_MAX_W_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    region: int
    branch: str
    contingency: str
    row_fine: _containers.RepeatedScalarFieldContainer[int]
    flow_min_w: int
    flow_max_w: int
    leaf: int
    salt: bytes
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, region: _Optional[int] = ..., branch: _Optional[str] = ..., contingency: _Optional[str] = ..., row_fine: _Optional[_Iterable[int]] = ..., flow_min_w: _Optional[int] = ..., flow_max_w: _Optional[int] = ..., leaf: _Optional[int] = ..., salt: _Optional[bytes] = ..., proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Submission(_message.Message):
    __slots__ = ("scope", "intervals")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    intervals: _containers.RepeatedCompositeFieldContainer[IntervalSubmission]
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., intervals: _Optional[_Iterable[_Union[IntervalSubmission, _Mapping]]] = ...) -> None: ...

class IntervalSubmission(_message.Message):
    __slots__ = ("interval", "round", "base_w", "gate_loading_fine", "leaf", "bus", "price_micro_per_mwh", "width_w", "salt_seed", "proof", "factors", "component", "unpublished_more_w", "unpublished_less_w")
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_W_FIELD_NUMBER: _ClassVar[int]
    GATE_LOADING_FINE_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    BUS_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICRO_PER_MWH_FIELD_NUMBER: _ClassVar[int]
    WIDTH_W_FIELD_NUMBER: _ClassVar[int]
    SALT_SEED_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    FACTORS_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    UNPUBLISHED_MORE_W_FIELD_NUMBER: _ClassVar[int]
    UNPUBLISHED_LESS_W_FIELD_NUMBER: _ClassVar[int]
    interval: Interval
    round: int
    base_w: _containers.RepeatedScalarFieldContainer[int]
    gate_loading_fine: _containers.RepeatedScalarFieldContainer[int]
    leaf: _containers.RepeatedScalarFieldContainer[int]
    bus: _containers.RepeatedScalarFieldContainer[int]
    price_micro_per_mwh: _containers.RepeatedScalarFieldContainer[int]
    width_w: _containers.RepeatedScalarFieldContainer[int]
    salt_seed: _containers.RepeatedScalarFieldContainer[bytes]
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    factors: _containers.RepeatedCompositeFieldContainer[FactorBlock]
    component: _containers.RepeatedScalarFieldContainer[int]
    unpublished_more_w: _containers.RepeatedScalarFieldContainer[int]
    unpublished_less_w: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, interval: _Optional[_Union[Interval, _Mapping]] = ..., round: _Optional[int] = ..., base_w: _Optional[_Iterable[int]] = ..., gate_loading_fine: _Optional[_Iterable[int]] = ..., leaf: _Optional[_Iterable[int]] = ..., bus: _Optional[_Iterable[int]] = ..., price_micro_per_mwh: _Optional[_Iterable[int]] = ..., width_w: _Optional[_Iterable[int]] = ..., salt_seed: _Optional[_Iterable[bytes]] = ..., proof: _Optional[_Iterable[bytes]] = ..., factors: _Optional[_Iterable[_Union[FactorBlock, _Mapping]]] = ..., component: _Optional[_Iterable[int]] = ..., unpublished_more_w: _Optional[_Iterable[int]] = ..., unpublished_less_w: _Optional[_Iterable[int]] = ...) -> None: ...

class FactorBlock(_message.Message):
    __slots__ = ("gate", "bus", "factor")
    GATE_FIELD_NUMBER: _ClassVar[int]
    BUS_FIELD_NUMBER: _ClassVar[int]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    gate: _containers.RepeatedScalarFieldContainer[int]
    bus: _containers.RepeatedScalarFieldContainer[int]
    factor: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, gate: _Optional[_Iterable[int]] = ..., bus: _Optional[_Iterable[int]] = ..., factor: _Optional[_Iterable[int]] = ...) -> None: ...

class CouplingResult(_message.Message):
    __slots__ = ("scope", "intervals")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    intervals: _containers.RepeatedCompositeFieldContainer[IntervalResult]
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., intervals: _Optional[_Iterable[_Union[IntervalResult, _Mapping]]] = ...) -> None: ...

class IntervalResult(_message.Message):
    __slots__ = ("interval", "round", "energy_price", "priced_gate", "shadow_price", "violated_gate", "violation_w", "acceptances", "link_w", "link_witness_fine", "balance_sign", "imbalance_w")
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ENERGY_PRICE_FIELD_NUMBER: _ClassVar[int]
    PRICED_GATE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_PRICE_FIELD_NUMBER: _ClassVar[int]
    VIOLATED_GATE_FIELD_NUMBER: _ClassVar[int]
    VIOLATION_W_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCES_FIELD_NUMBER: _ClassVar[int]
    LINK_W_FIELD_NUMBER: _ClassVar[int]
    LINK_WITNESS_FINE_FIELD_NUMBER: _ClassVar[int]
    BALANCE_SIGN_FIELD_NUMBER: _ClassVar[int]
    IMBALANCE_W_FIELD_NUMBER: _ClassVar[int]
    interval: Interval
    round: int
    energy_price: _containers.RepeatedScalarFieldContainer[int]
    priced_gate: _containers.RepeatedScalarFieldContainer[int]
    shadow_price: _containers.RepeatedScalarFieldContainer[int]
    violated_gate: _containers.RepeatedScalarFieldContainer[int]
    violation_w: _containers.RepeatedScalarFieldContainer[int]
    acceptances: _containers.RepeatedCompositeFieldContainer[RegionAcceptance]
    link_w: _containers.RepeatedScalarFieldContainer[int]
    link_witness_fine: _containers.RepeatedScalarFieldContainer[int]
    balance_sign: _containers.RepeatedScalarFieldContainer[int]
    imbalance_w: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, interval: _Optional[_Union[Interval, _Mapping]] = ..., round: _Optional[int] = ..., energy_price: _Optional[_Iterable[int]] = ..., priced_gate: _Optional[_Iterable[int]] = ..., shadow_price: _Optional[_Iterable[int]] = ..., violated_gate: _Optional[_Iterable[int]] = ..., violation_w: _Optional[_Iterable[int]] = ..., acceptances: _Optional[_Iterable[_Union[RegionAcceptance, _Mapping]]] = ..., link_w: _Optional[_Iterable[int]] = ..., link_witness_fine: _Optional[_Iterable[int]] = ..., balance_sign: _Optional[_Iterable[int]] = ..., imbalance_w: _Optional[_Iterable[int]] = ...) -> None: ...

class RegionAcceptance(_message.Message):
    __slots__ = ("full", "partial", "partial_w", "moved", "witness_fine")
    FULL_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_W_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FINE_FIELD_NUMBER: _ClassVar[int]
    full: bytes
    partial: _containers.RepeatedScalarFieldContainer[int]
    partial_w: _containers.RepeatedScalarFieldContainer[int]
    moved: _containers.RepeatedScalarFieldContainer[int]
    witness_fine: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, full: _Optional[bytes] = ..., partial: _Optional[_Iterable[int]] = ..., partial_w: _Optional[_Iterable[int]] = ..., moved: _Optional[_Iterable[int]] = ..., witness_fine: _Optional[_Iterable[int]] = ...) -> None: ...

class BoundaryInjection(_message.Message):
    __slots__ = ("scope", "intervals")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    intervals: _containers.RepeatedCompositeFieldContainer[IntervalInjection]
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., intervals: _Optional[_Iterable[_Union[IntervalInjection, _Mapping]]] = ...) -> None: ...

class IntervalInjection(_message.Message):
    __slots__ = ("interval", "injection_fine")
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    INJECTION_FINE_FIELD_NUMBER: _ClassVar[int]
    interval: Interval
    injection_fine: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, interval: _Optional[_Union[Interval, _Mapping]] = ..., injection_fine: _Optional[_Iterable[int]] = ...) -> None: ...

class BoundaryState(_message.Message):
    __slots__ = ("scope", "intervals")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    intervals: _containers.RepeatedCompositeFieldContainer[IntervalBoundary]
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., intervals: _Optional[_Iterable[_Union[IntervalBoundary, _Mapping]]] = ...) -> None: ...

class IntervalBoundary(_message.Message):
    __slots__ = ("interval", "angle", "price_difference")
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    ANGLE_FIELD_NUMBER: _ClassVar[int]
    PRICE_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    interval: Interval
    angle: _containers.RepeatedScalarFieldContainer[int]
    price_difference: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, interval: _Optional[_Union[Interval, _Mapping]] = ..., angle: _Optional[_Iterable[int]] = ..., price_difference: _Optional[_Iterable[int]] = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ("scope", "intervals")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    intervals: _containers.RepeatedCompositeFieldContainer[IntervalVote]
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., intervals: _Optional[_Iterable[_Union[IntervalVote, _Mapping]]] = ...) -> None: ...

class IntervalVote(_message.Message):
    __slots__ = ("interval", "accept", "flowgates", "misplaced_steps", "objective_exact", "gap_exact", "link_end_price")
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    FLOWGATES_FIELD_NUMBER: _ClassVar[int]
    MISPLACED_STEPS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_EXACT_FIELD_NUMBER: _ClassVar[int]
    GAP_EXACT_FIELD_NUMBER: _ClassVar[int]
    LINK_END_PRICE_FIELD_NUMBER: _ClassVar[int]
    interval: Interval
    accept: bool
    flowgates: _containers.RepeatedCompositeFieldContainer[Flowgate]
    misplaced_steps: int
    objective_exact: str
    gap_exact: str
    link_end_price: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, interval: _Optional[_Union[Interval, _Mapping]] = ..., accept: _Optional[bool] = ..., flowgates: _Optional[_Iterable[_Union[Flowgate, _Mapping]]] = ..., misplaced_steps: _Optional[int] = ..., objective_exact: _Optional[str] = ..., gap_exact: _Optional[str] = ..., link_end_price: _Optional[_Iterable[int]] = ...) -> None: ...

class RoundOpening(_message.Message):
    __slots__ = ("scope", "intervals")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    intervals: _containers.RepeatedCompositeFieldContainer[IntervalOpening]
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., intervals: _Optional[_Iterable[_Union[IntervalOpening, _Mapping]]] = ...) -> None: ...

class IntervalOpening(_message.Message):
    __slots__ = ("interval", "round", "flowgates", "tie_line")
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FLOWGATES_FIELD_NUMBER: _ClassVar[int]
    TIE_LINE_FIELD_NUMBER: _ClassVar[int]
    interval: Interval
    round: int
    flowgates: _containers.RepeatedCompositeFieldContainer[Flowgate]
    tie_line: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, interval: _Optional[_Union[Interval, _Mapping]] = ..., round: _Optional[int] = ..., flowgates: _Optional[_Iterable[_Union[Flowgate, _Mapping]]] = ..., tie_line: _Optional[_Iterable[int]] = ...) -> None: ...
