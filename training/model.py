"""From a ModelSpec to a model of transformers, built fresh: Llama or BitNet, full precision, ternary or binary."""

from dataclasses import replace
from typing import Any

import torch
from transformers import BitNetConfig, BitNetForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown, suggestion
from bitsim.simulator import ModelSpec
from bitsim.simulator.sizes import spec_for_vocabulary
from bitsim.simulator.workload import is_whole

from .bitlinear import transform
from .quantize import SCHEMES, Quantization

NORMS = ("sub", "inside", "none")
NORM_EPS = 1e-5  # of Llama 2 and of BitNet 2B4T
ROPE_THETA = 10_000.0  # Llama 2's, for both classes: BitNet's own default would make the twins differ in it
# Standard deviations of fresh weights; those of the other matrices follow from their width. With 0.02 throughout, the
# `initializer_range` of both classes, small models learn badly, ternary ones worst: the norm before an output makes it
# far larger than the embedding that it is added to. Measured with 0.55M parameters and 1.1M tokens, by the spread of
# inputs and outputs of the residual stream (n: width), nats of the held-out text:
#     inputs   0.02    n^-1/2  n^-1/2  n^-1/2  n^-1/2
#     outputs  0.02    0.04    0.02    0.006   0.001
#     FP16     5.026   5.319   4.975   4.959   4.927
#     ternary  5.594           5.459   5.187   5.119
EMBEDDING_STD = 0.02
_OUTPUT_STD = 0.001
ACTIVATIONS = ("silu", "relu2")
_PRE_NORMS = ("input_layernorm", "post_attention_layernorm")
_ENDS = ("embed_tokens.weight", "lm_head.weight")
_OUTPUTS = ("o_proj.weight", "down_proj.weight")  # what they give is added to the residual stream


def scheme_quantization(scheme: str) -> Quantization | None:
    """Return how a scheme quantises linear layers; None for full precision.

    Raises:
        BitsimError: no scheme of that name can be trained.
    """
    if scheme not in SCHEMES:
        near = suggestion(scheme, SCHEMES)
        raise BitsimError(f"scheme: expected one of {', '.join(SCHEMES)}, got '{shown(scheme)}'{near}")
    return SCHEMES[scheme]


def scheme_norms(scheme: str, norms: str | None = None) -> str:
    """Return where a model of this scheme has its norms: what is asked for, or the scheme's usual place.

    "sub": before the attention's output and before the FFN's, besides a Llama's (BitNet 2B4T, arXiv 2504.12285);
    "inside": in every linear layer, before its input is quantised (arXiv 2310.11453 and 2402.17764); "none": a
    Llama's alone. Quantised schemes have "sub" if nothing is asked for, full precision "none".

    Raises:
        BitsimError: another word, an unknown scheme, or norms inside of layers that no scheme quantises.
    """
    quantised = scheme_quantization(scheme) is not None
    if norms is None:
        return "sub" if quantised else "none"
    if norms not in NORMS:
        near = suggestion(norms, NORMS)
        raise BitsimError(f"norms: expected one of {', '.join(NORMS)}, got '{shown(norms)}'{near}")
    if norms == "inside" and not quantised:
        raise BitsimError(f"norms: expected sub or none, as {scheme} has no quantised layers to be inside of")
    return norms


def training_spec(
    size: str | float, vocab: int, *, scheme: str, context: int, norms: str | None = None, tied: bool = True
) -> ModelSpec:
    """Return the shape of a model to train, the same widths for every scheme; see `spec_for_vocabulary`.

    The size is that of the Llama twin: sub-norms add a fraction of a percent, and change no width.

    Args:
        size: all parameters, a tied head counted once, as a number or as text such as "25M".
        vocab: tokens of the tokenizer.
        scheme: one of `SCHEMES`.
        context: tokens of a sequence, which become the longest position.
        norms: see `scheme_norms`.
        tied: whether the embedding is the head too.

    Raises:
        BitsimError: no such shape, or an option that is wrong; it is named.
    """
    if not is_whole(context) or context < 1:
        raise BitsimError(f"context: expected a whole number above 0, got {shown(context)}")
    spec = spec_for_vocabulary(size, vocab, tied=tied)
    return with_norms(replace(spec, max_context=context), scheme_norms(scheme, norms))


def with_norms(spec: ModelSpec, norms: str) -> ModelSpec:
    """Return the shape with sub-norms or without, and the architecture that this makes it."""
    sub = norms == "sub"
    return replace(spec, sub_norms=sub, architecture="bitnet" if sub else "llama")


def build_model(
    spec: ModelSpec,
    scheme: str,
    *,
    seed: int,
    norms: str | None = None,
    bos: int | None = None,
    eos: int | None = None,
    quantization: Quantization | None = None,
) -> PreTrainedModel:
    """Build a model with random float32 weights, as `BitNetForCausalLM` if it has sub-norms, else `LlamaForCausalLM`.

    Matrices are drawn from normal distributions (`weight_std`), one after the other in the order of their names; norms
    are one and biases zero. The seed alone decides: torch's global generator is left as it was, and
    the twins of two schemes have the same matrices. For a quantised scheme all linear layers but the head become
    `BitLinear`. With norms inside of them, the norms of Llama before attention and FFN stay in place, as
    transformers has them too, and are frozen at one.

    Args:
        spec: the shape; its `sub_norms` is replaced by what `norms` says, its `max_context` is 2,048 if it has none.
        scheme: one of `SCHEMES`. For full precision too the weights are float32: autocast is the training loop's.
        seed: of the weights.
        norms: "sub", "inside" or "none"; None for "sub" or "none" as the spec has it.
        bos: token that begins a text, for the config.
        eos: token that ends a text, for the config.
        quantization: instead of the scheme's own, with other gradients for example.

    Raises:
        BitsimError: a shape that neither class has, or an option that is wrong; it is named.
    """
    norms = scheme_norms(scheme, norms or ("sub" if spec.sub_norms else "none"))
    spec = with_norms(spec, norms)
    _check_covered(spec)
    options = _options(spec, bos, eos)
    with torch.random.fork_rng(devices=[]):  # transformers draws weights of its own
        model: PreTrainedModel = (
            BitNetForCausalLM(BitNetConfig(**options)) if spec.sub_norms else LlamaForCausalLM(LlamaConfig(**options))
        )
    _draw(model, seed)
    rule = quantization or scheme_quantization(scheme)
    if rule is not None:
        quantise(model, rule, inside=norms == "inside")
    if norms == "inside":
        for name, module in model.named_modules():
            if name.endswith(_PRE_NORMS):
                module.requires_grad_(False)
    return model


def quantise(model: PreTrainedModel, quantization: Quantization, *, inside: bool) -> None:
    """Replace the linear layers of a model, but for the head, by `BitLinear`, with norms inside of them or without."""
    transform(model, quantization, norm_eps=model.config.rms_norm_eps if inside else None)


def counts(model: PreTrainedModel) -> dict[str, int]:
    """Count parameters in the conventions of the loss laws; frozen ones too, a tied head once.

    Returns:
        `parameters`: all. `embedding`: embedding, and the head where it is another tensor. `other`: norms and biases.
        `non_embedding`: N of Kaplan et al. (arXiv 2001.08361, section 2.1), the layers' matrices without embedding,
        head, positions, norms and biases. `chinchilla`: N of Hoffmann et al. (arXiv 2203.15556), all parameters.
    """
    ends = {id(model.get_parameter(name)) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    sizes = {"embedding": 0, "non_embedding": 0, "other": 0}
    for parameter in model.parameters():  # a tensor that is in two places comes once
        kind = "embedding" if id(parameter) in ends else "non_embedding" if parameter.ndim > 1 else "other"
        sizes[kind] += parameter.numel()
    total = sum(sizes.values())
    return {"parameters": total, **sizes, "chinchilla": total}


def weight_std(name: str, columns: int) -> float:
    """Return the standard deviation that a matrix of a fresh model is drawn with.

    Args:
        name: of the parameter, as transformers calls it.
        columns: width of the matrix's input.
    """
    if name.endswith(_ENDS):
        return EMBEDDING_STD
    return _OUTPUT_STD if name.endswith(_OUTPUTS) else columns**-0.5


def _draw(model: PreTrainedModel, seed: int) -> None:
    """Fill all matrices, in the order of their names, from a generator of our own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim > 1:
                parameter.normal_(0.0, weight_std(name, parameter.shape[1]), generator=generator)


def _check_covered(spec: ModelSpec) -> None:
    lacks = {
        "experts": spec.experts > 1,
        "norms after attention and feed-forward": spec.post_norms,
        "norms of queries and keys": spec.qk_norm,
        "a feed-forward without a gate": not spec.gated_ffn,
        "biases of queries, keys and values alone": spec.qkv_bias != spec.output_bias,
        f"the activation '{shown(spec.activation, 40)}'": spec.activation not in ACTIVATIONS,
        f"heads of {spec.head_dim}, an odd width,": spec.head_dim % 2 == 1,
        f"{spec.heads} heads, no divisor of the width {spec.hidden}": spec.hidden % spec.heads != 0,
        f"heads of {spec.head_dim} and sub-norms, where {spec.heads} of them are not the width {spec.hidden}": (
            spec.sub_norms and spec.query_width != spec.hidden
        ),
    }
    for what, lacking in lacks.items():
        if lacking:
            raise BitsimError(
                f"{spec.name}: models with {what} can't be built: transformers' Llama and BitNet have none"
            )


def _options(spec: ModelSpec, bos: int | None, eos: int | None) -> dict[str, Any]:
    """Return the config in the words of transformers."""
    for name, token in (("bos", bos), ("eos", eos)):
        if token is not None and not (is_whole(token) and 0 <= token < spec.vocab):
            raise BitsimError(f"{name}: expected a token below {spec.vocab:,}, got {shown(token)}")
    return {
        "vocab_size": spec.vocab,
        "hidden_size": spec.hidden,
        "intermediate_size": spec.ffn,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": spec.activation,
        "max_position_embeddings": spec.max_context or 2048,
        "initializer_range": EMBEDDING_STD,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_THETA,
        "attention_bias": spec.output_bias,
        "tie_word_embeddings": spec.tied_head,
        "bos_token_id": bos,
        "eos_token_id": eos,
    }
