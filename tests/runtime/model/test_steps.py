"""What a step promises: a token's result is the same bits whatever else is in the step; wrong requests are refused."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_checkpoint import MadeCheckpoint, small_spec
from refusals import refusal
from slow_transformer import hidden_states

from bitsim.energy_tables import BitsimError
from bitsim.runtime.kernels.choice import KERNELS, available
from bitsim.runtime.kernels.kernel import Compiled
from bitsim.runtime.loading import run_checkpoint
from bitsim.runtime.model.kv_cache import Sequence
from bitsim.runtime.model.model import Model

Tokens = np.ndarray[Any, np.dtype[np.int64]]
States = np.ndarray[Any, np.dtype[np.float32]]

LENGTH = 300
TEXT = np.random.default_rng(1).integers(0, 300, LENGTH)
MADE = {
    "ternary": lambda: MadeCheckpoint(small_spec(sub_norms=True, activation="relu2"), biases="q k v"),
    "mixed": lambda: MadeCheckpoint(small_spec(qk_norm=True, hidden=50, ffn=70), {"k": "half", "up": "brain"}),
    "half": lambda: MadeCheckpoint(small_spec(), "half", window=40),
}
WAYS = [(kind, kv, threads) for kind in MADE for kv, threads in (("f16", 2), ("int8", 3))]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: "-".join(map(str, way)))
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    kind, kv, threads = request.param
    made = run_checkpoint(MADE[kind](), threads=threads, kv=kv)
    yield made
    made.close()


@pytest.fixture(scope="module")
def one_by_one(model: Model) -> States:
    """States of the text, a step for each token."""
    sequence = model.sequence(LENGTH)
    return np.concatenate([model.step([(sequence, TEXT[at : at + 1])]) for at in range(LENGTH)])


@pytest.mark.parametrize("sizes", [[300], [128, 172], [1, 299], [2, 12, 13, 14, 15, 16, 17, 18, 129], [127, 129, 44]])
def test_any_grouping_gives_the_same_bits(model: Model, one_by_one: States, sizes: list[int]) -> None:
    sequence, start = model.sequence(LENGTH), 0
    for size in sizes:
        states = model.hidden_states(sequence, TEXT[start : start + size])
        np.testing.assert_array_equal(states, one_by_one[start : start + size])
        start += size
    assert sequence.length == sum(sizes)


PARTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 40)), min_size=1, max_size=4, unique_by=lambda part: part[0]
)


@given(steps=st.lists(PARTS, min_size=1, max_size=6))
def test_sequences_in_one_step_are_as_alone(
    model: Model, one_by_one: States, steps: list[list[tuple[int, int]]]
) -> None:
    """All say the same text, each at its own pace, in any order."""
    sequences = [model.sequence(LENGTH) for _ in range(4)]
    for step in steps:
        parts = [(sequences[which], sequences[which].length, count) for which, count in step]
        states = model.step([(sequence, TEXT[start : start + count]) for sequence, start, count in parts])
        np.testing.assert_array_equal(states, one_by_one[[start + count - 1 for _, start, count in parts]])
        assert [sequence.length for sequence, _, _ in parts] == [start + count for _, start, count in parts]


def test_more_parts_than_a_step_takes_at_once(model: Model, one_by_one: States) -> None:
    sequences = [model.sequence(16) for _ in range(150)]
    states = model.step([(sequence, TEXT[: 1 + at % 3]) for at, sequence in enumerate(sequences)])
    np.testing.assert_array_equal(states, one_by_one[np.arange(150) % 3])


@given(kept=st.integers(0, 100), beyond=st.integers(1, 60), after=st.integers(1, 60))
def test_what_is_cut_off_leaves_no_trace(model: Model, one_by_one: States, kept: int, beyond: int, after: int) -> None:
    sequence = model.sequence(LENGTH)
    if kept:
        model.step([(sequence, TEXT[:kept])])
    model.step([(sequence, (TEXT[kept : kept + beyond] + 7) % 300)])
    sequence.truncate(kept)
    states = model.hidden_states(sequence, TEXT[kept : kept + after])
    np.testing.assert_array_equal(states, one_by_one[kept : kept + after])


def test_python_threads_take_turns(model: Model, one_by_one: States) -> None:
    found: dict[int, list[States]] = {}

    def work(number: int) -> None:
        sequence = model.sequence(64)
        found[number] = [model.hidden_states(sequence, TEXT[at : at + 4]) for at in range(0, 64, 4)]

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for states in found.values():
        np.testing.assert_array_equal(np.concatenate(states), one_by_one[:64])


@pytest.mark.parametrize("kv", ["f16", "int8"])
def test_thousands_of_positions(kv: str) -> None:
    """A step far into a text, beside the twin; 16-bit weights, so that nothing but keys and values is rounded."""
    checkpoint = MadeCheckpoint(small_spec(layers=1, hidden=16, heads=2, kv_heads=1, head_dim=8, ffn=16), "half")
    text = np.random.default_rng(2).integers(0, 300, 5000)
    made = run_checkpoint(checkpoint, threads=2, kv=kv)
    sequence = made.sequence(5000)
    states = made.hidden_states(sequence, text)
    right = hidden_states(checkpoint, text)
    off = np.linalg.norm(states - right, axis=1) / np.linalg.norm(right, axis=1)
    assert off.max() < (1e-3 if kv == "f16" else 1e-2)
    sequence.truncate(4321)
    np.testing.assert_array_equal(made.step([(sequence, text[4321:4401])])[0], states[4400])
    made.close()


def test_a_longer_sequence_later_leaves_the_others_as_they_are() -> None:
    made = run_checkpoint(MADE["ternary"](), threads=2)
    short = made.sequence(100)
    before = made.hidden_states(short, TEXT[:50])
    long = made.sequence(3000)
    np.testing.assert_array_equal(made.hidden_states(long, TEXT[:50]), before)
    made.step([(short, TEXT[50:60]), (long, TEXT[50:60])])
    made.close()


@pytest.fixture(scope="module")
def small() -> Iterator[Model]:
    made = run_checkpoint(MadeCheckpoint(small_spec(layers=1, max_context=100)), threads=1)
    yield made
    made.close()


Ask = Callable[[Model, Sequence], object]
REFUSED: dict[str, tuple[Ask, str]] = {
    "nothing": (lambda model, _: model.step([]), "step: expected a sequence or more, got none"),
    "an empty part": (
        lambda model, some: model.step([(some, np.arange(0))]),
        "step: expected a token or more for each sequence, got none",
    ),
    "an empty text": (
        lambda model, some: model.hidden_states(some, np.arange(0)),
        "step: expected a token or more for each sequence, got none",
    ),
    "a sequence twice": (
        lambda model, some: model.step([(some, TEXT[:1]), (some, TEXT[:1])]),
        "step: expected each sequence once",
    ),
    "too many": (
        lambda model, some: model.step([(some, TEXT[:33])]),
        "context: 33 tokens do not fit, the sequence has room for 32",
    ),
    "a token too high": (
        lambda model, some: model.step([(some, np.array([1, 300, 2]))]),
        "tokens: expected 0 to 299, got 300",
    ),
    "a token below 0": (
        lambda model, some: model.step([(some, np.array([-1]))]),
        "tokens: expected 0 to 299, got -1",
    ),
    "a second part that is wrong": (
        lambda model, some: model.step([(some, TEXT[:1]), (model.sequence(5), np.array([900]))]),
        "tokens: expected 0 to 299, got 900",
    ),
    "no room": (lambda model, _: model.sequence(0), "context: expected 1 token or more, got 0"),
    "too much room": (
        lambda model, _: model.sequence(101),
        "context: expected at most 100 tokens, the model's context, got 101",
    ),
    "a length that was never there": (
        lambda _, some: some.truncate(1),
        "sequence: expected a length from 0 to 0, got 1",
    ),
    "a length below 0": (lambda _, some: some.truncate(-1), "sequence: expected a length from 0 to 0, got -1"),
    "a sequence of another model": (
        lambda model, _: model.step([(Sequence(MADE["half"]().config, 16), TEXT[:1])]),
        "step: expected sequences that this model made",
    ),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_refused(small: Model, what: str) -> None:
    """Nothing has happened then: the sequence goes on as if it had not been asked for."""
    ask, message = REFUSED[what]
    sequence = small.sequence(32)
    assert refusal(lambda: ask(small, sequence)) == message
    assert sequence.length == 0
    states = small.step([(sequence, TEXT[:3])])
    np.testing.assert_array_equal(states, small.step([(small.sequence(32), TEXT[:3])]))


def test_a_full_sequence_takes_its_last_token_and_no_more(small: Model) -> None:
    sequence = small.sequence(32)
    small.step([(sequence, TEXT[:31])])
    small.step([(sequence, TEXT[31:32])])
    with pytest.raises(BitsimError, match="33 tokens do not fit"):
        small.step([(sequence, TEXT[:1])])


def test_bytes_per_token() -> None:
    spec = small_spec(layers=3, heads=4, kv_heads=2, head_dim=20)
    config = MadeCheckpoint(spec).config
    assert Sequence(config, 64).bytes_per_token == 2 * 3 * 2 * 32 * 2
    assert Sequence(config, 64, "int8").bytes_per_token == 2 * 3 * 2 * (32 + 4)
    assert refusal(lambda: Sequence(config, 64, "int4")) == "kv: expected one of f16, int8, got 'int4'"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": 4}, "small: models with experts can be estimated, but not run"),
        (
            {"post_norms": True},
            "small: models with norms after attention and feed-forward can be estimated, but not run",
        ),
        ({"activation": "gelu"}, "small: models with the activation 'gelu' can be estimated, but not run"),
        ({"head_dim": 15}, "small: models with heads of 15, an odd width, can be estimated, but not run"),
    ],
)
def test_models_that_no_step_is_for(changes: dict[str, Any], message: str) -> None:
    assert refusal(lambda: run_checkpoint(MadeCheckpoint(small_spec(**changes)))) == message


def test_kernels_that_no_model_runs_with() -> None:
    from bitsim.runtime.heads.exact import ExactHead
    from bitsim.runtime.model.assembly import assemble
    from bitsim.runtime.threads import Team

    checkpoint, team = MadeCheckpoint(small_spec()), Team(1)
    head = ExactHead(checkpoint.embedding(), team)
    reference = KERNELS["reference"]
    assembled = assemble(checkpoint, reference.packing)
    message = "kernel: 'reference' multiplies single matrices only, no model runs with it"
    assert refusal(lambda: Model(assembled, reference, head, team)) == message
    for kernel in (each for each in available() if each.packing != assembled.packing):
        assert all(isinstance(method, Compiled) for _, method in kernel.methods)
        message = f"kernel: '{kernel.name}' reads {kernel.packing}, the model is packed as {assembled.packing}"
        assert refusal(partial(Model, assembled, kernel, head, team)) == message
