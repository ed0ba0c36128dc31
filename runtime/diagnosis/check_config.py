"""Constants that belong to a family: the activation, and whether the file can be read at all."""

from collections.abc import Iterator

from .contents import Contents
from .finding import ERROR, NOTE, Finding
from .known import known_model

_KEYS = {"gguf": "{architecture}.hidden_activation", "hf": "hidden_act"}


def check_activation(contents: Contents) -> Iterator[Finding]:
    """Look whether a model with sub-norms computes SiLU where it was trained with squared ReLU."""
    if contents.config is None:
        return
    spec = contents.config.spec
    known = known_model(spec)
    key = _KEYS.get(contents.form, "activation").format(architecture=contents.architecture)
    stated = key if contents.form != "gguf" else key if key in contents.metadata else f"architecture, without {key}"
    if known is not None and known.activation != spec.activation:
        yield Finding(
            ERROR,
            "activation",
            f"the feed-forward computes {spec.activation}, and this model was trained with {known.activation}",
            f"{stated}: {spec.activation}; the shape is that of {known.name}: {spec.layers} layers, "
            f"hidden {spec.hidden:,}, feed-forward {spec.ffn:,}, vocabulary {spec.vocab:,}",
            _mend(contents, key, known.activation),
        )
    elif spec.sub_norms and spec.activation == "silu" and key not in contents.metadata:
        yield Finding(
            NOTE,
            "activation",
            "the file does not say which activation it was trained with; readers take SiLU, and BitNet b1.58 2B4T, for "
            "one, has squared ReLU",
            f"architecture '{contents.architecture}', no key {key}",
            "to settle it: bitsim doctor FILE --run, or --against ORIGINAL",
        )


def _mend(contents: Contents, key: str, activation: str) -> str:
    if contents.form == "hf":
        return f'set "{key}": "{activation}" in config.json'
    return f"convert the original again with a program that writes {key} = {activation} (bitsim convert ORIGINAL NEW)"


def check_readable(contents: Contents) -> Iterator[Finding]:
    """Say why the runtime refuses the file; where only the text is to blame, `check_text` says so."""
    packed = [tensor for tensor in contents.tensors if tensor.kind == "2-bit"]
    if contents.form == "hf" and packed and "quantization_config" not in contents.metadata:
        yield Finding(
            ERROR,
            "quantization-config",
            "weights are packed, and the configuration does not say how",
            f"{len(packed)} packed tensors, such as {packed[0].name[:200]}; config.json has no quantization_config",
            'copy quantization_config from the original; for BitNet b1.58: {"quant_method": "bitnet", "linear_class": '
            '"autobitlinear", "quantization_mode": "offline"}, or "bitlinear" where weight_scale divides',
        )
        return
    refusal = contents.refusals.get("config") or contents.refusals.get("model")
    if refusal is not None and refusal != contents.refusals.get("text"):
        what = "the file can't be read as the model that it says it is"
        yield Finding(ERROR, "unreadable", what, refusal, "correct what is named, or get the file again")
