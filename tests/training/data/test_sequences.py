"""Sequences and their order: equal to a slow twin, the same for any number of processes and after a stop."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, skip_first_batches
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal
from slow_sequences import order_of, sequences_of
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from bitsim.training.data import Ordered, Prepared, Sequences, shuffled


def numbered(count: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.arange(count, dtype=np.uint16)


@given(st.integers(2, 9), st.integers(0, 60))
def test_sequences_are_those_of_the_slow_twin(context: int, count: int) -> None:
    expected = sequences_of(list(range(count)), context)
    if not expected:
        wanted = f"the text has {count} tokens, fewer than one context of {context}"
        assert refusal(lambda: Sequences(numbered(count), context)) == wanted
        return
    found = Sequences(numbered(count), context)
    assert [found[index]["input_ids"].tolist() for index in range(len(found))] == expected
    for index in (-1, len(found)):
        with pytest.raises(IndexError):
            found[index]


def test_an_item_is_what_a_model_of_transformers_takes() -> None:
    item = Sequences(np.array([65_535, 1, 2, 3], np.uint16), 3)[0]
    assert item["input_ids"].dtype == item["labels"].dtype == torch.int64
    assert item["input_ids"].tolist() == item["labels"].tolist() == [65_535, 1, 2]


def test_a_context_of_one_token_foretells_nothing() -> None:
    assert refusal(lambda: Sequences(numbered(9), 1)) == "context: expected at least 2 tokens, got 1"


def test_sequences_of_a_prepared_text_stay_on_their_side(prepared: Prepared) -> None:
    for side in (prepared.train, prepared.held_out):
        found = Sequences(side, 16)
        whole = torch.cat([found[index]["input_ids"] for index in range(len(found))])
        assert whole.tolist() == side[: len(side) // 16 * 16].tolist()


@given(st.integers(1, 12), st.integers(1, 50), st.integers(0, 2**40))
def test_the_order_is_that_of_the_slow_twin(sequences: int, count: int, seed: int) -> None:
    ordered = Ordered(Sequences(numbered(sequences * 2), 2), count, seed)
    assert [ordered.position(index) for index in range(len(ordered))] == order_of(sequences, count, seed)


@given(st.integers(1, 40), st.data())
def test_an_item_does_not_depend_on_those_before_it(count: int, data: st.DataObject) -> None:
    sequences = Sequences(numbered(14), 2)
    ordered = Ordered(sequences, count, 3)
    straight = [ordered.position(index) for index in range(count)]
    for index in data.draw(st.lists(st.integers(0, count - 1))):
        assert ordered.position(index) == straight[index]
        assert torch.equal(ordered[index]["labels"], sequences[straight[index]]["labels"])


def test_each_epoch_takes_every_sequence_once_in_an_order_of_its_own() -> None:
    epochs = [shuffled(1000, 7, epoch).tolist() for epoch in range(3)]
    assert all(sorted(epoch) == list(range(1000)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert shuffled(1000, 8, 0).tolist() != epochs[0]


def test_the_order_never_changes() -> None:
    """A run may be resumed years later: these are the numbers of numpy's PCG64, which it promises to keep."""
    assert shuffled(8, 1, 0).tolist() == [2, 4, 7, 5, 0, 6, 3, 1]


def test_wrong_requests_are_refused() -> None:
    sequences = Sequences(numbered(8), 2)
    for count, seed in ((0, 1), (5, -1)):
        message = refusal(partial(Ordered, sequences, count, seed))
        assert message == f"expected at least one sequence to train on and a seed from 0, got {count} and {seed}"
    with pytest.raises(IndexError):
        Ordered(sequences, 5, 0)[5]


def loader(ordered: Ordered, batch: int) -> DataLoader[dict[str, torch.Tensor]]:
    """Return what transformers.Trainer makes where its sampling strategy is sequential."""
    return DataLoader(ordered, batch_size=batch, sampler=SequentialSampler(ordered), drop_last=True)


def test_a_loader_that_skips_gives_what_would_have_come() -> None:
    """As transformers.Trainer resumes: it skips the batches that the run has had."""
    ordered = Ordered(Sequences(numbered(22), 2), 24, 5)
    straight = [batch["input_ids"].tolist() for batch in loader(ordered, 4)]
    assert len(straight) == 6
    for done in range(7):
        rest = [batch["input_ids"].tolist() for batch in skip_first_batches(loader(ordered, 4), done)]
        assert rest == straight[done:]


@pytest.mark.parametrize("split_batches", [False, True])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_batches_of_one(processes: int, split_batches: bool) -> None:
    """As accelerate shares batches out: the items of a step are the same, however many processes take them."""
    ordered = Ordered(Sequences(numbered(26), 2), 48, 5)
    alone = [batch["input_ids"][:, 0].tolist() for batch in loader(ordered, 8)]
    per_batch = 8 if split_batches else 8 // processes
    shards = []
    for process in range(processes):
        batches = BatchSampler(SequentialSampler(ordered), per_batch, drop_last=True)
        shard = BatchSamplerShard(batches, processes, process, split_batches=split_batches)
        found = DataLoader(ordered, batch_sampler=shard)
        shards.append([batch["input_ids"][:, 0].tolist() for batch in found])
    together = [sorted(item for batch in step for item in batch) for step in zip(*shards, strict=True)]
    assert together == [sorted(batch) for batch in alone]


@pytest.mark.slow
def test_the_trainer_takes_items_in_their_order(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    config = LlamaConfig(
        vocab_size=prepared.vocab, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    ordered = Ordered(Sequences(prepared.train, 16), 12, 1)
    place = str(tmp_path_factory.mktemp("trainer"))
    settings = TrainingArguments(
        place, per_device_train_batch_size=4, train_sampling_strategy="sequential", report_to="none", use_cpu=True
    )
    batches = list(Trainer(LlamaForCausalLM(config), settings, train_dataset=ordered).get_train_dataloader())
    found = torch.cat([batch["input_ids"] for batch in batches])
    assert torch.equal(found, torch.stack([ordered[index]["input_ids"] for index in range(12)]))
    assert torch.equal(found, torch.cat([batch["labels"] for batch in batches]))
