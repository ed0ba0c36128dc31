"""A Hugging Face folder: config.json, safetensors and the tokenizer's files."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown, suggestion

from ..packing import CODECS, Ternary
from .checkpoint import LINEARS, NORMS, Checkpoint, Dense, Float32, Linear
from .hugging_face_config import Quantisation, model_config, quantisation
from .json_file import read_json
from .quantize import absmean
from .safetensors_file import read_safetensors
from .stored import Stored
from .text_rules import folder_text_rules

LINEAR_NAMES = {name: f"self_attn.{name}_proj" for name in "qkvo"} | {
    name: f"mlp.{name}_proj" for name in ("gate", "up", "down")
}
# 1bitLLM's names are the second ones.
NORM_NAMES = {
    "attention_norm": ("input_layernorm",),
    "ffn_norm": ("post_attention_layernorm",),
    "attention_sub_norm": ("self_attn.attn_sub_norm", "self_attn.inner_attn_ln"),
    "ffn_sub_norm": ("mlp.ffn_sub_norm", "mlp.ffn_layernorm"),
    "q_norm": ("self_attn.q_norm",),
    "k_norm": ("self_attn.k_norm",),
}
_NEAREST_AMONG = 5000  # names looked at for a suggestion; a hostile file may have millions


def open_hugging_face(folder: Path) -> Checkpoint:
    """Open a folder: names, shapes and kinds of all tensors are checked, and no tensor is read.

    Raises:
        BitsimError: a file is missing or damaged, or a tensor is not what the config says; it is named.
    """
    return _Folder(folder)


class _Folder:
    """The checkpoint in a folder of Hugging Face."""

    def __init__(self, folder: Path) -> None:
        file = folder / "config.json"
        config = read_json(file)
        self.config = model_config(config, str(file))
        self._folder = folder
        self._quantisation = quantisation(config, str(file))
        self._tensors = folder_tensors(folder)
        self._widths = {matrix.name: (matrix.outputs, matrix.inputs) for matrix in self.config.spec.linears()}
        self._check()
        self.text = folder_text_rules(folder, config, self.config.spec.vocab)

    def embedding(self) -> Dense:
        return self._vocabulary("model.embed_tokens.weight").dense()

    def head(self) -> Dense | None:
        return None if self.config.spec.tied_head else self._vocabulary("lm_head.weight").dense()

    def output_norm(self) -> Float32:
        return self._stored("model.norm.weight").expect((self.config.spec.hidden,)).values()

    def norm(self, layer: int, name: str) -> Float32 | None:
        stored = self._norm(layer, name)
        return None if stored is None else stored.values()

    def linear(self, layer: int, name: str) -> Linear:
        module = f"model.layers.{layer}.{LINEAR_NAMES[name]}"
        rows, columns = self._widths[name]
        stored = self._stored(f"{module}.weight")
        bias = self._bias(module, name)
        rule = self._quantisation
        if rule is None or rule.keeps(module):
            return Linear(stored.expect((rows, columns)).dense(), bias)
        norm = self._stored(f"{module}.rms_norm.weight").expect((columns,)).values() if rule.inner_norm else None
        ternary = self._ternary(stored, module, rows, columns, rule)
        if bias is not None and rule.scale_multiplies and not rule.online:
            bias = bias * ternary.scales[0]  # AutoBitLinear adds the bias before it multiplies
        return Linear(ternary, bias, norm, rule.inner_norm_eps)

    def _check(self) -> None:
        """Raise unless every tensor is there, with its shape; their numbers are checked when they are read."""
        self._vocabulary("model.embed_tokens.weight")
        if not self.config.spec.tied_head:
            self._vocabulary("lm_head.weight")
        self._stored("model.norm.weight").expect((self.config.spec.hidden,))
        for layer in range(self.config.spec.layers):
            for name in NORMS:
                self._norm(layer, name)
            for name in LINEARS:
                stored = self._stored(f"model.layers.{layer}.{LINEAR_NAMES[name]}.weight")
                rows, columns = self._widths[name]
                packed = stored.kind == "U8" and self._quantisation is not None
                stored.expect((-(-rows // 4), columns) if packed else (rows, columns))

    def _stored(self, name: str) -> Stored:
        stored = self._tensors.get(name)
        if stored is None:
            near = suggestion(name, islice(self._tensors, _NEAREST_AMONG))
            raise BitsimError(f"{self._folder}: no tensor '{name}'{near}")
        return stored

    def _vocabulary(self, name: str) -> Stored:
        """Return a matrix with a row for each token."""
        stored = self._stored(name).expect((self.config.spec.vocab, self.config.spec.hidden))
        if stored.decode is None:
            raise BitsimError(f"{stored.where}: dtype: expected F32, F16 or BF16, got {stored.kind}")
        return stored

    def _norm(self, layer: int, name: str) -> Stored | None:
        spec = self.config.spec
        if not (spec.sub_norms if name.endswith("sub_norm") else spec.qk_norm or name not in ("q_norm", "k_norm")):
            return None
        width = {"ffn_sub_norm": spec.ffn, "attention_sub_norm": spec.query_width, "q_norm": spec.head_dim}
        width["k_norm"] = spec.head_dim
        names = [f"model.layers.{layer}.{module}.weight" for module in NORM_NAMES[name]]
        there = next((known for known in names if known in self._tensors), names[0])
        return self._stored(there).expect((width.get(name, spec.hidden),))

    def _bias(self, module: str, name: str) -> Float32 | None:
        spec = self.config.spec
        if not (spec.output_bias if name == "o" else spec.qkv_bias and name in "qkv"):
            return None
        return self._stored(f"{module}.bias").expect((self._widths[name][0],)).values()

    def _ternary(self, stored: Stored, module: str, rows: int, columns: int, rule: Quantisation) -> Ternary:
        if rule.online:
            return absmean(stored.expect((rows, columns)).values())
        scale = self._scale(f"{module}.weight_scale", rule)
        if stored.kind != "U8":
            return Ternary(_signs(stored.expect((rows, columns))), scale)
        stored.expect((-(-rows // 4), columns))
        try:
            return Ternary(CODECS["hf"].unpack(stored.data, rows, columns).weights, scale)
        except BitsimError as error:
            raise BitsimError(f"{stored.where}: {error}") from error

    def _scale(self, name: str, rule: Quantisation) -> Float32:
        """Return the scale of a matrix as one that multiplies, (1, 1)."""
        stored = self._stored(name)
        if stored.shape not in ((), (1,)):
            raise BitsimError(f"{stored.where}: expected one number, got shape {stored.shape}")
        value = float(stored.values().reshape(()))
        if value <= 0:
            raise BitsimError(f"{stored.where}: expected a number above 0, got {value:g}")
        return np.array([[value if rule.scale_multiplies else 1 / value]], np.float32)


def _signs(stored: Stored) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """Return weights that are -1, 0 and 1 already, stored as full numbers (transformers saves them so)."""
    values = stored.values()
    weights = values.astype(np.int8)
    if (weights != values).any() or (np.abs(weights) > 1).any():
        raise BitsimError(f"{stored.where}: expected packed weights, or full ones that are -1, 0 or 1; got others")
    return weights


def folder_tensors(folder: Path) -> dict[str, Stored]:
    """Return all tensors of a folder: of model.safetensors, or of the files that the index names."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return read_safetensors(whole)[0]
    if index.is_file():
        return _sharded(folder, index)
    if any(True for pattern in ("*.bin", "*.pt", "*.pth") for _ in folder.glob(pattern)):
        raise BitsimError(
            f"{folder}: weights in pickled files are not opened, as such a file can run any program; convert them:"
            " AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder) of transformers writes safetensors"
        )
    raise BitsimError(f"{folder}: expected model.safetensors or model.safetensors.index.json")


def _sharded(folder: Path, index: Path) -> dict[str, Stored]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise BitsimError(f"{index}: weight_map: expected an object of file names")
    shards = {file: _shard(folder, index, file) for file in _distinct(places.values())}
    for name, file in places.items():
        if name not in shards[file]:
            raise BitsimError(f"{index}: weight_map: no tensor '{shown(name, 200)}' in {file}")
    return {name: shards[file][name] for name, file in places.items()}


def _distinct(files: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(files))


def _shard(folder: Path, index: Path, file: str) -> dict[str, Stored]:
    """Open a file that the index names, which has to lie in the folder itself."""
    if Path(file).name != file or "\\" in file or "\0" in file:
        raise BitsimError(f"{index}: weight_map: expected the name of a file in this folder, got '{shown(file)}'")
    return read_safetensors(folder / file)[0]
