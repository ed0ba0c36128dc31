"""What lies in a model's file, tensor by tensor, whether or not the runtime can make a model of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from ..box import model_path
from ..checkpoints import open_checkpoint
from ..checkpoints.checkpoint import LINEARS, NORMS, Checkpoint
from ..checkpoints.gguf_config import gguf_config
from ..checkpoints.gguf_file import MAGIC, read_gguf
from ..checkpoints.gguf_tokenizer import gguf_text_rules
from ..checkpoints.hugging_face import folder_tensors
from ..checkpoints.hugging_face_config import Quantisation, model_config, quantisation
from ..checkpoints.json_file import read_json
from ..checkpoints.safetensors_file import read_safetensors
from ..checkpoints.stored import Stored, from_brain, from_half, mapped
from ..checkpoints.text_rules import folder_text_rules
from ..model import step
from ..model.assembly import INPUTS, Assembled
from ..model.config import ModelConfig, TextRules
from ..model.packed_checkpoint import PackedCheckpoint
from ..model.packed_file import is_packed, read_packed
from ..packing.codec import Ternary
from .codes import Beside, Census, census, census_of
from .tensor_names import class_of, layer_of

FORMS = {
    "gguf": "GGUF file",
    "hf": "Hugging Face folder",
    "safetensors": "safetensors file",
    "packed": "packed file of bitsim",
}
_KINDS = ("I2_S", "TQ1_0", "TQ2_0", "F32", "F16", "BF16")  # that may hold ternary weights


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor of a file.

    Attributes:
        name: as the file has it.
        tensor_class: one of `tensor_names.CLASSES`.
        kind: number format, as the file calls it; "2-bit" for Hugging Face's packed bytes.
        shape: of the numbers, unpacked: (rows, columns), or the length of a vector.
        bytes: that it takes in the file.
        is_scale: whether it scales another one, and is no weight itself.
        stored: where it lies; None for what is packed together with others.
        count: counts its ternary weights, or returns None where it has others.
    """

    name: str
    tensor_class: str
    kind: str
    shape: tuple[int, ...]
    bytes: int
    is_scale: bool
    stored: Stored | None
    count: Callable[[], Census | None]

    @property
    def layer(self) -> int | None:
        """The layer that it belongs to."""
        return layer_of(self.name)

    @property
    def weights(self) -> int:
        """Numbers of the model that it holds: a scale is none of them."""
        return 0 if self.is_scale else int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What lies in a file or folder.

    Attributes:
        place: the file or folder.
        form: one of FORMS.
        tensors: all of them, in the order of the file.
        bytes: of all files with weights.
        architecture: as the file calls it; None where it does not say.
        metadata: content of config.json, or the keys of GGUF.
        config: shape and constants, None where they can't be read.
        text: tokenizer and templates, None where they can't be read.
        quantisation: how a folder's linear layers are stored.
        checkpoint: the model, None where the runtime refuses it.
        refusals: why "config", "text" or "model" could not be read.
    """

    place: Path
    form: str
    tensors: tuple[Tensor, ...]
    bytes: int
    architecture: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: ModelConfig | None = None
    text: TextRules | None = None
    quantisation: Quantisation | None = None
    checkpoint: Checkpoint | None = None
    refusals: Mapping[str, str] = field(default_factory=dict)


def read_contents(path: str | Path) -> Contents:
    """Open a GGUF file, a safetensors file, a Hugging Face folder, a packed file or "box".

    Of a packed file the weights are read too.

    Raises:
        BitsimError: nothing is there, it is none of these, or its directory of tensors is damaged.
    """
    place = model_path(path)
    if place.is_dir():
        return _of_folder(place)
    start = mapped(place)[:9].tobytes()
    if start.startswith(MAGIC):
        return _of_gguf(place)
    if not start.endswith(b"{"):  # after eight bytes that say how long the JSON is
        expected = "a Hugging Face folder, a GGUF file, a safetensors file or a packed file"
        raise BitsimError(f"{place}: expected {expected}, and it does not begin with GGUF or a safetensors header")
    tensors, metadata = read_safetensors(place)
    if is_packed(metadata):
        return _of_packed(place)
    made = tuple(_in_safetensors(name, tensors, None, None) for name in tensors)
    return Contents(place, "safetensors", made, place.stat().st_size, metadata=metadata)


class _Tried:
    """Calls what may refuse, and keeps why it did."""

    def __init__(self) -> None:
        self.refusals: dict[str, str] = {}

    def __call__(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except BitsimError as error:
            self.refusals[what] = str(error)
            return None


def _of_gguf(place: Path) -> Contents:
    metadata, tensors = read_gguf(place)
    tried, where = _Tried(), str(place)
    model = tried("model", lambda: open_checkpoint(place))
    vocabulary = tensors.get("token_embd.weight")
    rows = 0 if vocabulary is None else vocabulary.shape[0]
    if model is None:
        config = tried("config", lambda: gguf_config(metadata, tensors, where))
        text = tried("text", lambda: gguf_text_rules(metadata, rows, where))
    else:
        config, text = model.config, model.text
    architecture = metadata.get("general.architecture")
    return Contents(
        place,
        "gguf",
        tuple(_in_gguf(name, stored, tensors) for name, stored in tensors.items()),
        place.stat().st_size,
        None if architecture is None else shown(architecture, 40),
        metadata,
        config,
        text,
        checkpoint=model,
        refusals=tried.refusals,
    )


def _in_gguf(name: str, stored: Stored, tensors: Mapping[str, Stored]) -> Tensor:
    scale = tensors.get(f"{name.removesuffix('.weight')}.scale")
    return _tensor(name, stored, stored.shape, None if scale is None else Beside(scale))


def _of_folder(place: Path) -> Contents:
    file = place / "config.json"
    config, tried = read_json(file), _Tried()
    tensors = folder_tensors(place)
    model = tried("config", lambda: model_config(config, str(file)))
    rule = tried("config", lambda: quantisation(config, str(file)))
    vocabulary = tensors.get("model.embed_tokens.weight")
    rows = vocabulary.shape[0] if vocabulary is not None and vocabulary.shape else 0
    text = tried("text", lambda: folder_text_rules(place, config, rows))
    family = config.get("model_type")
    return Contents(
        place,
        "hf",
        tuple(_in_safetensors(name, tensors, rule, model) for name in tensors),
        sum(weights.stat().st_size for weights in place.glob("*.safetensors")),
        None if family is None else shown(family, 40),
        config,
        model,
        text,
        rule,
        checkpoint=tried("model", lambda: open_checkpoint(place)),
        refusals=tried.refusals,
    )


def _in_safetensors(
    name: str, tensors: Mapping[str, Stored], rule: Quantisation | None, model: ModelConfig | None
) -> Tensor:
    stored = tensors[name]
    scale = tensors.get(f"{name}_scale")
    if scale is None:
        return _tensor(name, stored, stored.shape, None)
    beside = Beside(scale, divides=rule is not None and not rule.scale_multiplies)
    shape = stored.shape
    if stored.kind == "U8" and len(shape) == 2:
        rows = _rows_of(class_of(name), model) or 4 * shape[0]
        shape = (rows if -(-rows // 4) == shape[0] else 4 * shape[0], shape[1])
    return _tensor(name, stored, shape, beside)


def _rows_of(tensor_class: str, model: ModelConfig | None) -> int | None:
    linears = [] if model is None else model.spec.linears()
    return next((each.outputs for each in linears if each.name == tensor_class), None)


def _tensor(name: str, stored: Stored, shape: tuple[int, ...], beside: Beside | None) -> Tensor:
    tensor_class, is_scale = class_of(name), name.endswith(("_scale", ".scale"))
    packed = stored.kind == "U8" and beside is not None
    rows, columns = shape if len(shape) == 2 else (0, 0)
    may_be_ternary = tensor_class in LINEARS and rows * columns > 0 and not is_scale

    def count() -> Census | None:
        return census(stored, (rows, columns), beside) if may_be_ternary and (packed or stored.kind in _KINDS) else None

    return Tensor(
        name, tensor_class, "2-bit" if packed else stored.kind, shape, stored.data.nbytes, is_scale, stored, count
    )


def _of_packed(place: Path) -> Contents:
    model, screen = read_packed(place)
    checkpoint = PackedCheckpoint(model, str(place))
    tensors = [_vocabulary("embedding", model)] + [_vocabulary("head", model)] * (model.head is not None)
    tensors += [_plain(f"screen.{name}", "other", array) for name, array in screen.items()]
    for layer in range(model.config.spec.layers):
        tensors += _norms(checkpoint, layer)
        for name in LINEARS:
            tensors += _matrix(model, checkpoint, layer, name)
    tensors.append(_plain("output_norm", "norm", checkpoint.output_norm()))
    return Contents(
        place,
        "packed",
        tuple(tensors),
        place.stat().st_size,
        model.config.spec.architecture,
        {},
        model.config,
        model.text,
        checkpoint=checkpoint,
    )


def _vocabulary(name: str, model: Assembled) -> Tensor:
    """Return embedding or head; where it lies, rows are filled up with zeros."""
    dense = model.embedding if name == "embedding" or model.head is None else model.head
    kind, decode = ("BF16", from_brain) if dense.brain else ("F16", from_half)
    stored = Stored(name, kind, dense.bits.shape, dense.bits.reshape(-1).view(np.uint8), decode)
    shape = (model.config.spec.vocab, model.config.spec.hidden)
    return Tensor(name, name, kind, shape, dense.bits.nbytes, False, stored, lambda: None)


def _plain(name: str, tensor_class: str, array: Any) -> Tensor:
    kind = {"float32": "F32", "uint8": "U8", "int8": "I8", "uint32": "U32", "int64": "I64", "uint16": "U16"}
    # What a screen holds is no weight of the model.
    return Tensor(
        name,
        tensor_class,
        kind[array.dtype.name],
        array.shape,
        array.nbytes,
        tensor_class == "other",
        None,
        lambda: None,
    )


def _norms(checkpoint: PackedCheckpoint, layer: int) -> list[Tensor]:
    found = [(name, checkpoint.norm(layer, name)) for name in NORMS]
    return [_plain(f"layers.{layer}.{name}", "norm", norm) for name, norm in found if norm is not None]


def _matrix(model: Assembled, checkpoint: PackedCheckpoint, layer: int, name: str) -> list[Tensor]:
    """Return a matrix and its bias; of a product with several matrices, bytes go by rows."""
    spec = model.config.spec
    rows, columns = next((each.outputs, each.inputs) for each in spec.linears() if each.name == name)
    product = _product(model, layer, name)
    ternary = bool(product[step.KIND] == step.TERNARY)
    kind = model.packing if ternary else "BF16" if product[step.KIND] == step.BRAIN else "F16"
    size = int(product[step.SIZE]) * rows // int(product[step.ROWS]) + 4 * rows * ternary  # a scale for each row

    def count() -> Census | None:
        weights = checkpoint.linear(layer, name).weights
        return census_of(weights) if isinstance(weights, Ternary) else None

    made = [Tensor(f"layers.{layer}.{name}", name, kind, (rows, columns), size, False, None, count)]
    if spec.output_bias if name == "o" else spec.qkv_bias and name in "qkv":
        made.append(_plain(f"layers.{layer}.{name}.bias", "bias", np.zeros(rows, np.float32)))
    return made


def _product(model: Assembled, layer: int, name: str) -> Any:
    """Return the row of `Weights.products` that holds a matrix."""
    names, first = next((names, place) for names, place in INPUTS if name in names)
    rows = {each.name: each.outputs for each in model.config.spec.linears()}
    start = sum(rows[other] for other in names[: names.index(name)])
    for product in model.products[layer, first : first + len(names)]:
        if product[step.KIND] != step.ABSENT and start < product[step.ROWS]:
            return product
        start -= 0 if product[step.KIND] == step.ABSENT else int(product[step.ROWS])
    raise BitsimError(f"layer {layer}: {name}: expected it in one of the products")
