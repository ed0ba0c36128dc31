"""Parameters and products counted by Hugging Face transformers and torch, on tensors without data."""

from collections.abc import Iterator
from typing import Any

import pytest
from shapes import config_of

from bitsim.energy_tables import model_rows
from bitsim.simulator import ModelSpec, get_scheme, spec_from_config
from bitsim.simulator.model_config import FAMILIES
from bitsim.simulator.operations import Load, operations
from bitsim.simulator.system import shape_of, widths_of

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

ROWS = {name: row for name, row in model_rows().items() if row.architecture in FAMILIES}
BATCH = 2
DEPTH = 3  # layers are alike: some are enough to compare their products (all of them take three minutes and agree)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


def build(config: dict[str, Any]) -> Any:
    """Make the model without allocating its weights."""
    fields = {key: value for key, value in config.items() if key != "model_type"}
    hf_config = transformers.AutoConfig.for_model(config["model_type"], **fields, pad_token_id=None)
    # Experts by batched products: the default asks which experts were chosen, and tensors without data don't know.
    hf_config._experts_implementation = "batched_mm"
    with torch.device("meta"):
        # Eager attention is plain matrix products, each of them seen by the counter.
        return transformers.AutoModelForCausalLM.from_config(hf_config, attn_implementation="eager").eval()


def counted_macs(model: Any, tokens: int, past: int) -> float:
    """Count the products of one pass over `tokens` tokens after `past` cached ones, but for the rotary angles.

    transformers makes the angles by a small matrix product of positions and frequencies, which is no product of weights
    or activations; its module is left out.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), torch.device("meta"):
        cache = None
        if past:
            cache = model(input_ids=torch.zeros((BATCH, past), dtype=torch.long), use_cache=True).past_key_values
        ids = torch.zeros((BATCH, tokens), dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids, past_key_values=cache, use_cache=True)
    angles = sum(
        sum(flops.values()) for module, flops in counter.get_flop_counts().items() if module.endswith("rotary_emb")
    )
    return float(counter.get_total_flops() - angles) / 2


def simulated_macs(spec: ModelSpec, tokens: int, past: int) -> float:
    """Count the same by bitsim: eager attention makes the full square of scores, and logits for every token."""
    load = Load(BATCH, tokens, past, scores=tokens * (past + tokens), logits=BATCH * tokens)
    counted = operations(shape_of(spec), widths_of(get_scheme("fp16")), load, pow)
    return float(sum(operation.macs for operation in counted))


@pytest.mark.parametrize("name", ROWS)
def test_parameters_are_those_of_the_transformers_class(name: str) -> None:
    row = ROWS[name]
    model = build(config_of(row))
    counted = sum(weight.numel() for weight in model.parameters())  # a tied head comes once
    assert ModelSpec.from_row(row).parameters == counted
    assert spec_from_config(model.config.to_dict(), "config.json").parameters == counted


@pytest.mark.parametrize("name", ROWS)
def test_products_of_prefill_and_decode_are_those_that_torch_counts(name: str) -> None:
    row = ROWS[name]._replace(layers=min(ROWS[name].layers, DEPTH))
    model, spec = build(config_of(row)), ModelSpec.from_row(row)
    for tokens, past in ((16, 0), (1, 33), (5, 12)):
        assert simulated_macs(spec, tokens, past) == counted_macs(model, tokens, past)


@pytest.mark.parametrize("name", ["llama-3.2-1b", "gemma-3-1b", "bitnet-b1.58-2B-4T"])
def test_products_of_all_layers_are_those_that_torch_counts(name: str) -> None:
    model, spec = build(config_of(ROWS[name])), ModelSpec.from_row(ROWS[name])
    assert simulated_macs(spec, 16, 0) == counted_macs(model, 16, 0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "silent", ["num_key_value_heads", "head_dim", "tie_word_embeddings", "attention_bias", "max_position_embeddings"]
)
def test_a_key_left_out_means_what_the_transformers_class_makes_of_it(family: str, silent: str) -> None:
    row = next(row for row in ROWS.values() if row.architecture == family)
    config = {**config_of(row), "num_hidden_layers": 2, "hidden_size": 1280, "vocab_size": 1000, "head_dim": 64}
    # Multiples of the key heads that the class has where it is not told: 5 in BitNet, powers of two in the others.
    config |= {"num_attention_heads": 20 if family == "bitnet" else 32, "num_key_value_heads": 2}
    del config[silent]
    model = build(config)
    spec = spec_from_config(config, "config.json")
    assert spec.parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "gemma2", "gemma3_text", "bitnet", "qwen3_moe"])
def test_attention_bias_adds_the_weights_it_adds_in_transformers(family: str) -> None:
    row = next(row for row in ROWS.values() if row.architecture == family)
    config = {**config_of(row), "num_hidden_layers": 2, "attention_bias": True}
    assert spec_from_config(config, "config.json").parameters == sum(w.numel() for w in build(config).parameters())
