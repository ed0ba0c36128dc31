"""The best size for a budget, found from runs that a law made, is the law's own."""

from collections.abc import Callable

import numpy as np
import pytest
from refusals import refusal

from bitsim.energy_tables import loss_laws
from bitsim.simulator.compute_optimal import optimal_split
from bitsim.simulator.loss_laws import loss_nats
from bitsim.training.frontier import Curve, envelope, iso_flops
from bitsim.training.huber import Array

LAW = loss_laws()["chinchilla-besiroglu"]
EXPONENT = 0.3658 / (0.3478 + 0.3658)


def curve(size: float) -> Curve:
    tokens = np.geomspace(1e9, 5e11, 200)
    return Curve(size, tokens, np.array([loss_nats(LAW, size, at) for at in tokens]))


def profiles(bend: Callable[[float], float] = lambda loss: loss) -> tuple[Array, Array, Array]:
    rows = []
    for flops in (6e18, 6e19, 6e20):
        for factor in np.geomspace(0.3, 3, 9):
            size = optimal_split(LAW, flops).parameters * factor
            rows.append((flops, size, bend(loss_nats(LAW, size, flops / (6 * size)))))
    flops_, sizes, losses = np.array(rows).T
    return flops_, sizes, losses


def test_approach_1_finds_the_laws_optimum() -> None:
    found = envelope([curve(size) for size in np.geomspace(5e7, 1e10, 15)])
    assert found.exponent == pytest.approx(EXPONENT, abs=0.01)
    assert found.best_parameters(1e21) == pytest.approx(optimal_split(LAW, 1e21).parameters, rel=0.05)
    assert found.best_parameters(1e21) * found.best_tokens(1e21) * 6 == pytest.approx(1e21)
    assert found.tokens_exponent == 1 - found.exponent


def test_approach_2_finds_the_laws_optimum() -> None:
    found = iso_flops(*profiles())
    assert found.exponent == pytest.approx(EXPONENT, abs=0.001)
    assert found.best_parameters(1e21) == pytest.approx(optimal_split(LAW, 1e21).parameters, rel=0.01)
    assert found.warnings == ()


def test_a_lowest_point_outside_the_sizes_is_warned_of() -> None:
    flops, sizes, losses = profiles()
    keep = (flops > 1e19) | (sizes > 1.2 * optimal_split(LAW, 6e18).parameters)
    found = iso_flops(flops[keep], sizes[keep], losses[keep])
    assert "profile of 6e+18 FLOPs: its lowest point" in found.warnings[0]


def test_what_shows_no_optimum_is_refused() -> None:
    flops, sizes, losses = profiles()
    assert "bend downwards" in (refusal(lambda: iso_flops(*profiles(lambda loss: -loss + 10))) or "")
    assert "at least 2 amounts of compute" in (refusal(lambda: iso_flops(flops[:9], sizes[:9], losses[:9])) or "")
    assert "at least 3 sizes, got 1" in (refusal(lambda: iso_flops(flops[8:], sizes[8:], losses[8:])) or "")
    assert "one compute, one size and one loss" in (refusal(lambda: iso_flops(flops, sizes, losses[:-1])) or "")
    assert "finite numbers above 0" in (refusal(lambda: iso_flops(flops, sizes, losses * np.nan)) or "")
    assert "at least 3 sizes, got 2" in (refusal(lambda: envelope([curve(1e8), curve(1e9)])) or "")
    assert "several sizes to be the best" in (refusal(lambda: envelope([curve(s) for s in (1e8, 1e9, 1e10)])) or "")
