"""A checkpoint to begin training from: a folder of Hugging Face or a GGUF file, its linear layers replaced."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown
from bitsim.runtime.checkpoints import LINEARS, open_checkpoint, write_hugging_face
from bitsim.runtime.checkpoints.hugging_face_config import is_1bit_llm, model_config, quantisation
from bitsim.runtime.checkpoints.json_file import Keys, read_json
from bitsim.runtime.checkpoints.text_rules import folder_text_rules
from bitsim.runtime.model.config import TextRules
from bitsim.runtime.packing import Ternary
from bitsim.simulator import ModelSpec

from .bitlinear import transform
from .export import INNER_NORM_KEY
from .model import NORM_EPS, scheme_quantization
from .quantize import Quantization

_NORM = ".rms_norm.weight"  # how the norms inside of linear layers are called in a file
_FOR_GOOD = "the weights are ternary, and what they were rounded from, which training goes on from, is not there"
_REFUSALS = (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, SafetensorError)


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What training begins with.

    Attributes:
        model: the checkpoint's, in float32; for a quantised scheme its linear layers but the head are `BitLinear`.
        spec: its shape.
        text: its tokenizer, special tokens and chat template, for the export.
        tokenizer: content of its `tokenizer.json`, for the data.
    """

    model: PreTrainedModel
    spec: ModelSpec
    text: TextRules
    tokenizer: bytes


def start_from(
    path: str | Path, scheme: str, *, norms: str | None = None, quantization: Quantization | None = None
) -> Start:
    """Open a full-precision checkpoint, or the full weights of a ternary one, to train on from.

    At strength 0 (`set_strength`) the model computes what the checkpoint does, unless it gets norms that the checkpoint
    has not. Nothing is fetched, and no program that comes with a checkpoint is run.

    Args:
        path: a folder of Hugging Face with safetensors, or a GGUF file, whose weights are dequantised to 16 bits (as
            many bytes as transformers' folder of the model takes are needed in the system's temporary folder).
        scheme: one of `SCHEMES`, to train in.
        norms: "inside" for an RMSNorm in every linear layer, of ones where the checkpoint has none (arXiv 2505.08823);
            None for the norms of the checkpoint.
        quantization: instead of the scheme's own, with other gradients for example.

    Raises:
        BitsimError: nothing is there, weights that are pickled or packed, an architecture that is not covered, or no
            tokenizer; file and field are named.
    """
    rule = quantization or scheme_quantization(scheme)
    if norms not in (None, "inside") or (norms and rule is None):
        allowed = "none of its own" if rule is None else "inside, or none of its own"
        raise BitsimError(f"norms: a checkpoint has norms already: expected {allowed}, got '{shown(norms)}'")
    place = Path(path)
    start, inner_norm_eps = _folder(place) if place.is_dir() else (_file(place), None)
    if inner_norm_eps is not None and rule is None:
        raise BitsimError(f"{place}: its linear layers have norms inside, which {scheme} has no place for")
    if rule is not None:
        transform(start.model, rule, norm_eps=inner_norm_eps or (NORM_EPS if norms else None))
    if inner_norm_eps is not None:
        _load_inner_norms(start.model, place)
    return start


def _start(place: Path, model: PreTrainedModel, spec: ModelSpec, text: TextRules) -> Start:
    if text.tokenizer is None:
        raise BitsimError(f"{place}: expected a tokenizer.json, as training has to cut text into the model's tokens")
    return Start(model, replace(spec, name=place.stem), text, text.tokenizer)


def _folder(folder: Path) -> tuple[Start, float | None]:
    """Open a folder, and say what epsilon the norms inside of its linear layers have, if there are such."""
    where = folder / "config.json"
    config = read_json(where)
    spec = model_config(config, str(where)).spec
    if is_1bit_llm(config, str(where)):
        raise BitsimError(f"{where}: weight_bits: no class of transformers has this model's sub-norms and names")
    stored = quantisation(config, str(where))
    if stored is not None and not stored.online:
        raise BitsimError(
            f'{where}: quantization_config: {_FOR_GOOD}: expected full weights, or "quantization_mode": "online"'
        )
    text = folder_text_rules(folder, config, spec.vocab)
    _check_not_pickled(folder)
    model = _loaded(folder, config=_without_quantisation(folder))
    inner_norm_eps = stored.inner_norm_eps if stored is not None and stored.inner_norm else None
    if INNER_NORM_KEY in config:
        inner_norm_eps = Keys(config, str(where)).number(INNER_NORM_KEY, high=1.0)
    return _start(folder, model, spec, text), inner_norm_eps


def _file(file: Path) -> Start:
    """Open a file by way of a folder, as transformers reads fewer kinds of GGUF files, and not all they say."""
    checkpoint = open_checkpoint(file)
    for layer in {0, checkpoint.config.spec.layers // 2}:  # some models leave a few matrices as they were
        if any(isinstance(checkpoint.linear(layer, name).weights, Ternary) for name in LINEARS):
            raise BitsimError(f"{file}: {_FOR_GOOD}: expected a file of full weights")
    with TemporaryDirectory(prefix="bitsim-") as place:
        folder = Path(place, file.stem)
        write_hugging_face(checkpoint, folder)
        model = _loaded(folder, config=_without_quantisation(folder))
    return _start(file, model, checkpoint.config.spec, checkpoint.text)


def _without_quantisation(folder: Path) -> Any:
    """Return the config of a folder as one of full weights, which those of an online model are."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except _REFUSALS as error:
        raise _refusal(folder / "config.json", error) from error
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def _loaded(folder: Path, config: Any) -> PreTrainedModel:
    """Let transformers load a model in float32; every tensor it needs has to be there."""
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except _REFUSALS as error:
        raise _refusal(folder, error) from error
    model: PreTrainedModel = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise BitsimError(f"{folder}: no tensor '{shown(missing[0], 200)}' ({len(missing):,} missing)")
    model.train()
    return model


def _check_not_pickled(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    if any(True for pattern in ("*.bin", "*.pt", "*.pth") for _ in folder.glob(pattern)):
        raise BitsimError(
            f"{folder}: weights in pickled files are not opened, as such a file can run any program; convert them:"
            " AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder) of transformers writes safetensors"
        )
    raise BitsimError(f"{folder}: expected model.safetensors or model.safetensors.index.json")


def _load_inner_norms(model: PreTrainedModel, folder: Path) -> None:
    """Fill the norms inside of linear layers, which the class of transformers did not have when it was loaded."""
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= {name: tensor for name, tensor in load_file(file).items() if name.endswith(_NORM)}
    for name, parameter in model.named_parameters():
        if not name.endswith(_NORM):
            continue
        if name not in tensors or tensors[name].shape != parameter.shape:
            raise BitsimError(f"{folder}: expected a tensor '{name}' of {parameter.numel():,} numbers")
        parameter.data.copy_(tensors[name])


def _refusal(where: Path, error: Exception) -> BitsimError:
    return BitsimError(f"{where}: transformers can't open it: {shown(error, 200)}")
