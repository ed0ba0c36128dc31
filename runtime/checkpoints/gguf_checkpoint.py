"""A model in a GGUF file, of llama.cpp or of bitnet.cpp."""

from itertools import islice
from pathlib import Path

import numpy as np

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import suggestion

from ..packing import CODECS, Ternary
from .checkpoint import LINEARS, NORMS, Checkpoint, Dense, Float32, Linear
from .gguf_config import gguf_config
from .gguf_file import read_gguf
from .gguf_names import INTERLEAVED, LINEAR, NORM, halves
from .gguf_tokenizer import gguf_text_rules
from .stored import Stored

# Kind of tensor to codec. bitnet.cpp's converter writes I2_S for the CPU it runs on, and the file does not say which
# it was: x86 is taken.
_CODECS = {"TQ1_0": "tq1_0", "TQ2_0": "tq2_0", "I2_S": "i2_s"}
_NEAREST_AMONG = 5000  # names looked at for a suggestion; a hostile file may have millions


def open_gguf(file: Path) -> Checkpoint:
    """Open a GGUF file: names, shapes and kinds of all tensors are checked, and no tensor is read.

    Raises:
        BitsimError: the file is damaged, or a tensor is not what the metadata says; it is named.
    """
    return _File(file)


class _File:
    """The checkpoint in a GGUF file."""

    def __init__(self, file: Path) -> None:
        metadata, self._tensors = read_gguf(file)
        self._where = file
        self.config = gguf_config(metadata, self._tensors, str(file))
        self._interleaved = metadata["general.architecture"] in INTERLEAVED
        self._shapes = {matrix.name: (matrix.outputs, matrix.inputs) for matrix in self.config.spec.linears()}
        self._check()
        self.text = gguf_text_rules(metadata, self.config.spec.vocab, str(file))

    def embedding(self) -> Dense:
        return self._vocabulary("token_embd.weight").dense()

    def head(self) -> Dense | None:
        return None if self.config.spec.tied_head else self._vocabulary("output.weight").dense()

    def output_norm(self) -> Float32:
        return self._stored("output_norm.weight").expect((self.config.spec.hidden,)).values()

    def norm(self, layer: int, name: str) -> Float32 | None:
        stored = self._norm(layer, name)
        return None if stored is None else stored.values()

    def linear(self, layer: int, name: str) -> Linear:
        module = f"blk.{layer}.{LINEAR[name]}"
        stored = self._stored(f"{module}.weight").expect(self._shapes[name])
        weights: Ternary | Dense = self._ternary(stored, module) if stored.kind in _CODECS else stored.dense()
        bias = self._tensors.get(f"{module}.bias")
        numbers = None if bias is None else bias.expect(self._shapes[name][:1]).values()
        if self._interleaved and name in "qk":
            heads = self.config.spec.heads if name == "q" else self.config.spec.kv_heads
            weights = _in_halves(weights, heads)
            numbers = None if numbers is None else halves(numbers, heads)
        return Linear(weights, numbers)

    def _check(self) -> None:
        """Raise unless every tensor is there, with its shape; their numbers are checked when they are read."""
        for name in ["token_embd.weight"] + ["output.weight"] * (not self.config.spec.tied_head):
            self._vocabulary(name)
        self._stored("output_norm.weight").expect((self.config.spec.hidden,))
        for layer in range(self.config.spec.layers):
            for name in NORMS:
                self._norm(layer, name)
            for name in LINEARS:
                stored = self._stored(f"blk.{layer}.{LINEAR[name]}.weight").expect(self._shapes[name])
                if stored.decode is None and stored.kind not in _CODECS:
                    raise BitsimError(
                        f"{stored.where}: type: {stored.kind} is none of the number formats that are read"
                    )

    def _stored(self, name: str) -> Stored:
        stored = self._tensors.get(name)
        if stored is None:
            near = suggestion(name, islice(self._tensors, _NEAREST_AMONG))
            raise BitsimError(f"{self._where}: no tensor '{name}'{near}")
        return stored

    def _vocabulary(self, name: str) -> Stored:
        """Return a matrix with a row for each token."""
        return self._stored(name).expect((self.config.spec.vocab, self.config.spec.hidden))

    def _norm(self, layer: int, name: str) -> Stored | None:
        spec = self.config.spec
        if not (spec.sub_norms if name.endswith("sub_norm") else spec.qk_norm or name not in ("q_norm", "k_norm")):
            return None
        width = {"ffn_sub_norm": spec.ffn, "attention_sub_norm": spec.query_width}
        width |= dict.fromkeys(("q_norm", "k_norm"), spec.head_dim)
        return self._stored(f"blk.{layer}.{NORM[name]}.weight").expect((width.get(name, spec.hidden),))

    def _ternary(self, stored: Stored, module: str) -> Ternary:
        rows, columns = stored.shape
        try:
            ternary = CODECS[_CODECS[stored.kind]].unpack(stored.data, rows, columns)
        except BitsimError as error:
            raise BitsimError(f"{stored.where}: {error}") from error
        if not np.isfinite(ternary.scales).all():
            raise BitsimError(f"{stored.where}: expected finite scales, got one that is not")
        # One number beside the matrix, which multiplies what comes out of it.
        beside = self._tensors.get(f"{module}.scale")
        factor = np.float32(1) if beside is None else beside.expect((1,)).values()
        return Ternary(ternary.weights, fewest_scales(ternary) * factor)


def fewest_scales(ternary: Ternary) -> Float32:
    """Return the scales of a matrix with blocks that agree taken together: (1, 1), (rows, 1) or (rows, blocks).

    A block of zeros may have any scale (llama.cpp writes 0); where there is nothing else, it is 1.
    """
    rows = len(ternary.weights)
    scales = ternary.scales
    used = np.broadcast_to(ternary.weights.reshape(rows, scales.shape[1], -1).any(axis=2), (rows, scales.shape[1]))
    for axes in ((0, 1), (1,)):
        high = np.where(used, scales, -np.inf).max(axis=axes, keepdims=True)
        low = np.where(used, scales, np.inf).min(axis=axes, keepdims=True)
        if (low >= high).all():  # equal, or the other way round where no block is used
            return np.where(np.isfinite(high), high, 1).astype(np.float32)
    return scales


def _in_halves(weights: Ternary | Dense, heads: int) -> Ternary | Dense:
    if isinstance(weights, Dense):
        return Dense(halves(weights.bits, heads), weights.brain)
    by_row = len(weights.scales) > 1
    return Ternary(halves(weights.weights, heads), halves(weights.scales, heads) if by_row else weights.scales)
