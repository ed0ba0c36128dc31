"""The size, the training tokens and the scheme with the lowest loss for a budget, training and serving together.

A run of N parameters on D tokens that serves S tokens costs

    c(N, D) = 6 N D k + S p(N)

where k is what a FLOP of training costs and p(N) what a served token costs (`lifetime.py`). For a budget B the loss
L(N, (B - S p(N)) / (6 N k)) is a function of N alone; for a loss l the cost c(N, D(l, N)) is. Both are searched over
log N. With S = 0 and a Chinchilla law the first is the compute-optimal split (hoffmann2022, Equation 4); in FLOPs, with
p = 2 N, the second is that of Sardana et al. 2024 (arXiv:2401.00448, Equation 3).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bitsim.energy_tables import BitsimError, HardwareProfile, Interval, LossLaw, load_hardware
from bitsim.energy_tables.errors import shown
from bitsim.energy_tables.units import format_count

from .compute_optimal import FLOPS_PER_PARAMETER_TOKEN
from .lifetime import ServingPrice, TrainingPrice, serving_price, training_price
from .loss_laws import Loss, check_positive
from .scheme_law import SchemeLaw, comparison_notes, scheme_laws
from .sizes import MAX_PARAMETERS, MIN_PARAMETERS
from .workload import MAX_TRAINING_TOKENS, Workload, check_training_tokens, is_whole

BUDGETS = {"flops": "FLOP", "energy": "J", "money": "USD"}
# Sixteen users at once read the weights together, as a service has them; with one, every token reads all of them.
DEFAULT_WORKLOAD = Workload(batch=16, prompt_tokens=512, new_tokens=128, context=640)
MAX_DEVICES = 10**7
_GRID = 500  # sizes looked at before the search goes into detail
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_STEPS = 60  # each leaves 0.62 of the interval; more would be below what floats of a flat minimum tell apart
_MANY_TOKENS = 100.0  # per parameter: five times the usual 20
_NEAR = 1e-4  # how near to a limit counts as at the limit


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent: `flops` (FLOPs), `energy` (J) or `money` (dollars)."""

    kind: str
    amount: float

    def __post_init__(self) -> None:
        """Refuse what is no budget."""
        if self.kind not in BUDGETS:
            raise BitsimError(f"budget: expected one of {', '.join(BUDGETS)}, got '{shown(self.kind)}'")
        check_positive(**{self.kind: self.amount})


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a run beside the budget: training tokens at hand, and the largest size (parameters)."""

    tokens: float = MAX_TRAINING_TOKENS
    parameters: float = MAX_PARAMETERS

    def __post_init__(self) -> None:
        """Refuse limits out of range."""
        check_training_tokens(self.tokens)
        if not MIN_PARAMETERS < self.parameters <= MAX_PARAMETERS:
            least, got = format_count(MIN_PARAMETERS), shown(self.parameters)
            raise BitsimError(f"largest size: expected more than {least} and at most 1000T parameters, got {got}")


@dataclass(frozen=True, slots=True)
class Service:
    """What a model is to serve in its life: generated tokens, each with its share of the prompt."""

    tokens: float = 0.0
    hardware: str | HardwareProfile | None = None  # by default the one that trains
    workload: Workload = DEFAULT_WORKLOAD

    def __post_init__(self) -> None:
        """Refuse what is no number of tokens."""
        if not (math.isfinite(self.tokens) and self.tokens >= 0):
            raise BitsimError(f"served tokens: expected a finite number of at least 0, got {shown(self.tokens)}")


NO_LIMITS, NO_SERVICE = Limits(), Service()


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of training and serving in the unit of a budget.

    Attributes:
        per_flop: of training, k.
        per_served_token: of serving with a model of N parameters, p(N); must not fall with N.
        served: tokens served, S.
    """

    per_flop: float
    per_served_token: Callable[[float], float]
    served: float = 0.0

    def training(self, parameters: float, tokens: float) -> float:
        """Return 6 N D k."""
        return FLOPS_PER_PARAMETER_TOKEN * parameters * tokens * self.per_flop

    def serving(self, parameters: float) -> float:
        """Return S p(N)."""
        return self.served * self.per_served_token(parameters) if self.served else 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """A size, its training tokens, the loss (nats per token) they reach and the cost in the unit of the budget."""

    parameters: float
    tokens: float
    loss: float
    training: float
    serving: float

    @property
    def flops(self) -> float:
        """Compute of the training, 6 N D (FLOPs)."""
        return FLOPS_PER_PARAMETER_TOKEN * self.parameters * self.tokens

    @property
    def total(self) -> float:
        """Training and serving."""
        return self.training + self.serving


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemePlan:
    """The best run of one scheme.

    Attributes:
        scheme: name of the scheme.
        run: lowest loss within the budget.
        loss: its loss, with range, law and notes.
        binds: what keeps the loss from being lower: budget, tokens (at hand), size (the largest allowed).
        training_j: energy of the training (J).
        training_usd: rental for the training (dollars), None where the machine has no price.
        device_s: training time of all devices added up (s).
        devices: how many train; as many as hold the training state where none were named.
        serving_j: energy of the served tokens (J).
        serving_usd: rental for them (dollars), None where the machine has no price.
        serving_devices: how many hold the model and the batch when it serves.
        train_first: the run of the same loss that is cheapest to train, as if nothing were served; its serving is
            what its size then costs. Where nothing is served it is `run` itself.
        same_loss: the cheapest run, in training and serving, that reaches the loss of the first scheme's plan; None
            where no run does.
        law: the loss law that was followed.
        costs: prices of training and serving in the unit of the budget (middle values).
    """

    scheme: str
    run: Run
    loss: Loss
    binds: tuple[str, ...]
    training_j: Interval
    training_usd: Interval | None
    device_s: Interval
    devices: int
    serving_j: Interval
    serving_usd: Interval | None
    serving_devices: int
    train_first: Run
    same_loss: Run | None
    law: SchemeLaw
    costs: Costs

    @property
    def wall_s(self) -> Interval:
        """Training time with all devices at work (s)."""
        return self.device_s.scaled(1.0 / self.devices)

    @property
    def tokens_per_parameter(self) -> float:
        """Training tokens over parameters."""
        return self.run.tokens / self.run.parameters

    @property
    def size_moved(self) -> float:
        """The size over that of the run of the same loss that is cheapest to train: at most 1 but for rounding."""
        return self.run.parameters / self.train_first.parameters

    @property
    def saved(self) -> float:
        """What planning for serving saves of that run's training and serving, as a fraction."""
        return 1.0 - self.run.total / self.train_first.total


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The best runs of several schemes for one budget; `best` is the scheme with the lowest loss."""

    budget: Budget
    hardware: HardwareProfile
    serving_hardware: HardwareProfile
    service: Service
    limits: Limits
    schemes: tuple[SchemePlan, ...]
    notes: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def best(self) -> SchemePlan:
        """The plan with the lowest loss."""
        return min(self.schemes, key=lambda plan: plan.run.loss)


@dataclass(frozen=True, slots=True)
class _Case:
    """One scheme: its law, its prices, and its costs in the unit of the budget."""

    law: SchemeLaw
    training: TrainingPrice
    serving: ServingPrice
    costs: Costs


def plan(
    budget: Budget,
    schemes: tuple[str, ...] = ("fp16", "b1.58"),
    *,
    laws: Mapping[str, LossLaw | str] | None = None,
    hardware: str | HardwareProfile = "a100-80gb",
    devices: int | None = None,
    service: Service = NO_SERVICE,
    limits: Limits = NO_LIMITS,
) -> Plan:
    """Find the size, the tokens and the scheme with the lowest loss for a budget.

    Middle values of prices and laws decide; ranges are given for the run that they lead to. N counts all parameters.
    A budget of FLOPs counts 6 N a training token and 2 N a token read or generated in serving, whatever the scheme.

    Args:
        budget: FLOPs, joules or dollars for training and serving together.
        schemes: fp16, b1.58; the first is the one whose loss the others are asked to reach for less.
        laws: loss law by scheme; see `scheme_laws`.
        hardware: machine that trains.
        devices: how many train; it changes the time, not the cost.
        service: what the model serves in its life.
        limits: tokens at hand and largest size.

    Raises:
        BitsimError: an unknown name, a number out of range, or a budget that the smallest model exceeds.
    """
    if not schemes:
        raise BitsimError("schemes: expected at least one, got none")
    if devices is not None and not (is_whole(devices) and 1 <= devices <= MAX_DEVICES):
        raise BitsimError(f"devices: expected 1 to {MAX_DEVICES:,}, got {shown(devices)}")
    trains = _profile(hardware)
    serves = trains if service.hardware is None else _profile(service.hardware)
    schemes = tuple(dict.fromkeys(schemes))
    found_laws = scheme_laws(schemes, laws)
    cases = [_case(found_laws[name], budget, trains, serves, service) for name in schemes]
    runs = [best_run(case.law, case.costs, budget, limits) for case in cases]
    plans = tuple(
        _scheme_plan(case, run, budget, limits, goal=runs[0].loss, devices=devices)
        for case, run in zip(cases, runs, strict=True)
    )
    keys = [key for case in cases for key in (*case.law.sources, *case.training.sources)]
    keys += [key for case in cases for key in case.serving.sources if service.tokens]
    return Plan(
        budget=budget,
        hardware=trains,
        serving_hardware=serves,
        service=service,
        limits=limits,
        schemes=plans,
        notes=tuple(dict.fromkeys(_notes(plans, found_laws, budget, service, serves))),
        sources=tuple(dict.fromkeys(keys)),
    )


def best_run(law: SchemeLaw, costs: Costs, budget: Budget, limits: Limits = NO_LIMITS) -> Run:
    """Return the run with the lowest loss that training and serving can pay with a budget.

    Raises:
        BitsimError: even the smallest size is too dear, or the best size is outside 100K to 1000T parameters.
    """

    def loss_at(log_size: float) -> float:
        parameters = math.exp(log_size)
        tokens = _tokens_at(costs, budget, parameters, limits)
        return law.loss(parameters, tokens) if tokens >= 1 else math.inf

    least, most = math.log(MIN_PARAMETERS), math.log(limits.parameters)
    at = lowest(loss_at, least, most)
    served = f" with {format_count(costs.served)} tokens served" if costs.served else ""
    what = f"{budget.kind}: {budget.amount:.3g} {BUDGETS[budget.kind]}{served}"
    if not math.isfinite(loss_at(at)):
        raise BitsimError(f"{what}: expected a larger budget, which pays for the smallest size, 100K ({law.scheme})")
    bound = None
    if at - least < _NEAR:
        bound = "at least 100K"
    elif limits.parameters == MAX_PARAMETERS and most - at < _NEAR:
        bound = "at most 1000T"
    if bound:
        raise BitsimError(f"{what}: expected a budget whose best size is {bound} parameters ({law.scheme}, {law.name})")
    parameters = math.exp(at)
    return _run(law, costs, parameters, _tokens_at(costs, budget, parameters, limits))


def run_of_size(
    law: SchemeLaw, costs: Costs, budget: Budget, parameters: float, limits: Limits = NO_LIMITS
) -> Run | None:
    """Return the run of a size on all tokens that training and serving leave of a budget, and that the limits allow.

    `best_run` is the one with the lowest loss of these.

    Args:
        law: loss of the scheme.
        costs: of training and serving, in the unit of the budget.
        budget: what may be spent.
        parameters: the size.
        limits: tokens at hand and largest size.

    Returns:
        The run; None where the size is above the largest allowed, or the budget does not pay for one token.

    Raises:
        BitsimError: a size that is not above zero.
    """
    check_positive(parameters=parameters)
    tokens = _tokens_at(costs, budget, parameters, limits)
    if tokens < 1 or parameters > limits.parameters * (1.0 + _NEAR):
        return None
    return _run(law, costs, parameters, tokens)


def cheapest_run(law: SchemeLaw, costs: Costs, loss: float, limits: Limits = NO_LIMITS) -> Run | None:
    """Return the run that reaches a loss for the least training and serving, or None where no run does."""

    def tokens_at(parameters: float) -> float:
        tokens = max(law.tokens_for(loss, parameters), 1.0)
        return tokens if tokens <= limits.tokens * (1.0 + _NEAR) else math.inf

    def cost_at(log_size: float) -> float:
        parameters = math.exp(log_size)
        tokens = tokens_at(parameters)
        return costs.training(parameters, tokens) + costs.serving(parameters)

    at = lowest(cost_at, math.log(MIN_PARAMETERS), math.log(limits.parameters))
    if not math.isfinite(cost_at(at)):
        return None
    return _run(law, costs, math.exp(at), tokens_at(math.exp(at)))


def lowest(value: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function is lowest: on a grid, then by golden section between the neighbours of the best.

    Infinite values are where the function has none. Where it is lowest at an end, the end itself is returned.
    """
    grid = [low + (high - low) * step / _GRID for step in range(_GRID + 1)]
    best = min(grid, key=value)
    left, right = max(best - (high - low) / _GRID, low), min(best + (high - low) / _GRID, high)
    inner = [right - _GOLDEN * (right - left), left + _GOLDEN * (right - left)]
    values = [value(at) for at in inner]
    for _ in range(_STEPS):
        if values[0] <= values[1]:
            right = inner[1]
            inner = [right - _GOLDEN * (right - left), inner[0]]
            values = [value(inner[0]), values[0]]
        else:
            left = inner[0]
            inner = [inner[1], left + _GOLDEN * (right - left)]
            values = [values[1], value(inner[1])]
    return min((inner[0], inner[1], best), key=value)


def _tokens_at(costs: Costs, budget: Budget, parameters: float, limits: Limits) -> float:
    """Return the tokens that a size can be trained on; below zero where serving alone exceeds the budget."""
    left = budget.amount - costs.serving(parameters)
    return min(left / costs.training(parameters, 1.0), limits.tokens)


def _run(law: SchemeLaw, costs: Costs, parameters: float, tokens: float) -> Run:
    loss = law.loss(parameters, tokens)
    return Run(parameters, tokens, loss, costs.training(parameters, tokens), costs.serving(parameters))


def _profile(hardware: str | HardwareProfile) -> HardwareProfile:
    return hardware if isinstance(hardware, HardwareProfile) else load_hardware(hardware)


def _case(law: SchemeLaw, budget: Budget, trains: HardwareProfile, serves: HardwareProfile, service: Service) -> _Case:
    training = training_price(law.scheme, trains)
    serving = serving_price(law.scheme, serves, service.workload)
    return _Case(law, training, serving, _costs(budget.kind, training, serving, service.tokens))


def _costs(kind: str, training: TrainingPrice, serving: ServingPrice, served: float) -> Costs:
    """Put the prices in the unit of a budget (middle values)."""
    if kind == "flops":
        return Costs(1.0, serving.flops_at, served)
    if kind == "energy":
        return Costs(training.joules.mid, lambda parameters: serving.joules_at(parameters).mid, served)
    for profile in (training.hardware, serving.hardware):
        if profile.get("price_usd_per_hour") is None:
            raise BitsimError(f"{profile.name}: price_usd_per_hour: a budget in dollars needs it, it is missing")

    def usd(price: Interval | None) -> float:
        return math.nan if price is None else price.mid

    return Costs(usd(training.usd), lambda parameters: usd(serving.usd_at(parameters)), served)


def _scheme_plan(
    case: _Case, run: Run, budget: Budget, limits: Limits, *, goal: float, devices: int | None
) -> SchemePlan:
    law, training, serving, costs = case.law, case.training, case.serving, case.costs
    first = None
    if costs.served:
        first = cheapest_run(law, Costs(costs.per_flop, costs.per_served_token), run.loss, limits)
    usd = serving.usd_at(run.parameters)
    return SchemePlan(
        scheme=law.scheme,
        run=run,
        loss=law.predict(run.parameters, run.tokens),
        binds=_binds(run, budget, limits),
        training_j=training.joules.scaled(run.flops),
        training_usd=None if training.usd is None else training.usd.scaled(run.flops),
        device_s=training.device_s.scaled(run.flops),
        devices=devices or training.devices_at(run.parameters),
        serving_j=serving.joules_at(run.parameters).scaled(costs.served),
        serving_usd=None if usd is None else usd.scaled(costs.served),
        serving_devices=serving.devices_at(run.parameters),
        train_first=run if first is None else _run(law, costs, first.parameters, first.tokens),
        same_loss=cheapest_run(law, costs, goal, limits),
        law=law,
        costs=costs,
    )


def _binds(run: Run, budget: Budget, limits: Limits) -> tuple[str, ...]:
    found = {
        "budget": run.total >= budget.amount * (1.0 - _NEAR),
        "tokens": run.tokens >= limits.tokens * (1.0 - _NEAR),
        "size": run.parameters >= limits.parameters * (1.0 - _NEAR),
    }
    return tuple(name for name, is_bound in found.items() if is_bound)


def _notes(
    plans: tuple[SchemePlan, ...],
    laws: Mapping[str, SchemeLaw],
    budget: Budget,
    service: Service,
    serves: HardwareProfile,
) -> list[str]:
    """Say what a reader of the numbers must know."""
    notes = comparison_notes(laws)
    notes += [note for plan in plans for note in plan.loss.notes]
    many = [
        f"{plan.scheme} {plan.tokens_per_parameter:,.0f}" for plan in plans if plan.tokens_per_parameter > _MANY_TOKENS
    ]
    if many:
        notes.append(
            f"training tokens per parameter: {', '.join(many)}; laws fitted at usual numbers promise too much of so "
            "many (Sardana et al. 2024, arXiv:2401.00448)"
        )
    if service.tokens:
        work = service.workload
        notes.append(
            f"a served token is a generated one with its share of the prompt (batch {work.batch}, "
            f"{work.prompt_tokens} tokens read and {work.new_tokens} generated of each sequence)"
        )
        notes.append(
            "energies of training and of serving hold the building's overhead (PUE) and, of GPUs, their share of the"
            " server"
        )
        several = [f"{plan.scheme} {plan.serving_devices}" for plan in plans if plan.serving_devices > 1]
        if several:
            held = f"devices of {serves.name} that hold the model and the batch: {', '.join(several)}"
            notes.append(f"{held}; what they exchange is left out")
    if budget.kind == "flops":
        notes.append("a budget of FLOPs sees no difference between the schemes' arithmetic; one of energy does")
    return notes
