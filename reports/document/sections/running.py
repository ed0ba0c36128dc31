"""The sections on what running costs, and on which machines it runs."""

from bitsim.energy_tables import BitsimError, grid_rows, hardware_names, load_hardware
from bitsim.simulator import Estimate, estimate

from ..parts import Cell, Number, Section, Table
from . import cells
from .case import Case, load_of, on

_RENT = "hardware_usd_per_million_tokens"
_FEW = 2  # schemes whose longest contexts a table has room for
_POWER = "electricity_usd_per_million_tokens"
_CARBON = "kg_co2e_per_million_tokens"
_REGIONS = {
    "world": "the world", "us": "United States", "eu": "European Union", "fr": "France", "de": "Germany",
    "se": "Sweden", "gb": "United Kingdom", "in": "India", "cn": "China", "jp": "Japan", "ca": "Canada",
    "au": "Australia", "br": "Brazil",
}  # fmt: skip


def costs(case: Case) -> Section:
    """Return rent, electricity and carbon of a million new tokens, by machine and by grid."""
    region = case.question.region
    text = (
        "Of a million new tokens, while the machine works on nothing else; the prompt is not counted. Electricity is "
        f"that of the machine alone, on the grid of {_REGIONS.get(region, region)} unless another is named.",
    )
    figures, missing = case.draw(
        (
            "cost-regions",
            f"CO2e of a million new tokens on {case.where} by the grid it draws from.",
            "Bars of kilograms of CO2e per million new tokens by region, for every scheme.",
        )
    )
    tables = (_by_machine(case), _by_region(case))
    return Section("running-cost", "Running cost and carbon", text, tables, figures, missing)


def _by_machine(case: Case) -> Table:
    rows: list[list[Cell]] = []
    for group in case.machines:
        for index, each in enumerate(group):
            rent, power, carbon = each.cost.get(_RENT), each.cost[_POWER], each.cost[_CARBON]
            rows.append(
                [
                    on(each) if index == 0 else "",
                    each.scheme.name,
                    cells.dollars(rent.mid) if rent else "–",
                    cells.span(cells.dollars(rent.low), cells.dollars(rent.high)) if rent else "",
                    cells.dollars(power.mid),
                    cells.grams(carbon.mid),
                    cells.span(cells.grams(carbon.low), cells.grams(carbon.high)),
                ]
            )
    columns = ("machine", "scheme", "rent", "range", "electricity", "CO2e", "range")
    return cells.table(columns, rows, "A million new tokens; a dash: no price of rent is known.")


def _by_region(case: Case) -> Table:
    rows: list[list[Cell]] = []
    for region, grid in grid_rows().items():
        carbon: list[Cell] = []
        for each in case.first:
            joules = each.token_energy_j["total"].mid * 1e6
            carbon += [cells.grams(grid.carbon_kg_per_j.mid * joules), cells.dollars(grid.price_usd_per_j * joules)]
        grams = Number(grid.carbon_kg_per_j.mid, f"{grid.carbon_kg_per_j.mid * 3.6e9:,.3g} g")
        rows.append([_REGIONS.get(region, region), grams, *carbon])
    names = [text for each in case.first for text in (f"{each.scheme.name} CO2e", "electricity")]
    caption = f"A million new tokens on {on(case.first[0])}, by grid."
    return cells.table(("grid", "CO2e of a kWh", *names), rows, caption)


def devices(case: Case) -> Section:
    """Return on which of the known machines the model fits, and how fast it is there."""
    work = case.question.workload
    own = [name for name in case.question.machines if name.casefold() not in hardware_names()]
    rows: list[list[Cell]] = []
    for name in (*hardware_names(), *own):
        profile = load_hardware(name)
        found = [
            _there(case, each, name, work.batch, work.prompt_tokens, work.new_tokens, work.context)
            for each in case.first
        ]
        results: list[Cell] = []
        for each in found:
            if each is None or not each.fits:
                results += ["–", "–"]
            else:
                about = "" if each.engine.fit == "fitted" else "≈"
                speed = cells.speed(each.tokens_per_s.mid)
                results += [Number(speed.value, about + speed.text), cells.count(each.largest_context)]
        if len(case.first) > _FEW:
            results = results[::2]
        rows.append([profile.name, profile.title, cells.si(profile.value("capacity_bytes").mid, "B"), *results])
    names = [text for each in case.first for text in (f"{each.scheme.name}, tokens", "longest context")]
    if len(case.first) > _FEW:
        names = names[::2]
    text = (
        "One of each machine, with all of its memory. A dash: the model and its workload do not fit. The sign ≈: no "
        "published speed of this machine and scheme stands behind the number. Where the values of a machine come "
        "from is printed by bitsim hardware show NAME.",
    )
    table = cells.table(("machine", "what it is", "memory", *names), rows, f"{load_of(case.question)}.")
    return Section("devices", "Which machines it fits", text, (table,))


def _there(case: Case, each: Estimate, name: str, *load: int) -> Estimate | None:
    batch, prompt, new, context = load
    try:
        return estimate(
            case.question.spec,
            each.scheme,
            name,
            batch=batch,
            prompt_tokens=prompt,
            new_tokens=new,
            context=context,
            devices=1,
        )
    except BitsimError:
        return None  # the machine has no rate for this scheme


def sources() -> list[str]:
    """Return the keys of the sources of all grids."""
    return [key for grid in grid_rows().values() for key in grid.provenance.sources]
