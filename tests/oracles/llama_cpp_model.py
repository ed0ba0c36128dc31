"""llama.cpp running a model of random weights in the shape of BitNet b1.58 2B4T: TQ2_0, head Q6_K."""

import ctypes
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from bitsim.simulator.model_spec import ModelSpec

BLOCK, TQ2_0_BYTES, Q6_K_BYTES = 256, 66, 210
SCALE = np.float16(0.02).tobytes()
SMALL_SCALE = np.float16(0.0005).tobytes()


def write_random(spec: ModelSpec, path: Path) -> None:
    """Write such a file; without a vocabulary, since tokens are numbers here."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "bitnet")
    writer.add_block_count(spec.layers)
    writer.add_embedding_length(spec.hidden)
    writer.add_feed_forward_length(spec.ffn)
    writer.add_context_length(spec.max_context or 4096)
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(spec.head_dim)
    writer.add_rope_freq_base(500_000.0)
    writer.add_vocab_size(spec.vocab)
    writer.add_string("tokenizer.ggml.model", "none")
    kinds = gguf.GGMLQuantizationType
    head = _q6_k(random, spec.vocab, spec.hidden)
    writer.add_tensor("token_embd.weight", head, raw_dtype=kinds.Q6_K)
    writer.add_tensor("output_norm.weight", np.ones(spec.hidden, np.float32))
    names = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output"}
    names |= {"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
    norms = {"attn_norm": spec.hidden, "attn_sub_norm": spec.query_width}
    norms |= {"ffn_norm": spec.hidden, "ffn_sub_norm": spec.ffn}
    matrices = {linear.name: _tq2_0(random, linear.outputs, linear.inputs) for linear in spec.linears()}
    for layer in range(spec.layers):
        for name, width in norms.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(width, np.float32))
        for name, matrix in matrices.items():
            writer.add_tensor(f"blk.{layer}.{names[name]}.weight", matrix, raw_dtype=kinds.TQ2_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tq2_0(random: np.random.Generator, rows: int, columns: int) -> Any:
    blocks = np.empty((rows * columns // BLOCK, TQ2_0_BYTES), np.uint8)
    codes = random.integers(0, 3, (len(blocks), 64, 4), np.uint8)
    blocks[:, :64] = codes @ np.array([1, 4, 16, 64], np.uint8)
    blocks[:, 64:] = np.frombuffer(SCALE, np.uint8)
    return blocks.reshape(rows, -1)


def _q6_k(random: np.random.Generator, rows: int, columns: int) -> Any:
    blocks = random.integers(0, 256, (rows * columns // BLOCK, Q6_K_BYTES), np.uint8)
    blocks[:, 192:208] = random.integers(1, 20, (len(blocks), 16))
    blocks[:, 208:] = np.frombuffer(SMALL_SCALE, np.uint8)
    return blocks.reshape(rows, -1)


class LlamaCpp:
    """A model in llama.cpp; `step` takes tokens after those before, `clear` begins anew."""

    def __init__(self, library: Any, path: Path, threads: int, context: int = 1024) -> None:
        self._library = library
        library.llama_log_set(_SILENT, None)
        library.llama_backend_init()
        options = library.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = library.llama_model_load_from_file(str(path).encode(), options)
        assert self._model
        self._options = library.llama_context_default_params()
        self._options.n_ctx = context
        self._options.n_threads = self._options.n_threads_batch = threads
        self._context: Any = None
        self.clear()

    def clear(self) -> None:
        self._free()
        self._context = self._library.llama_init_from_model(self._model, self._options)

    def step(self, tokens: list[int]) -> None:
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        batch = self._library.llama_batch_get_one(array, len(tokens))
        assert self._library.llama_decode(self._context, batch) == 0

    def logits(self) -> Any:
        """Return the logits of the last token of the last step: (vocabulary,)."""
        count = self._library.llama_vocab_n_tokens(self._library.llama_model_get_vocab(self._model))
        return np.ctypeslib.as_array(self._library.llama_get_logits(self._context), (count,)).copy()

    def close(self) -> None:
        self._free()
        self._library.llama_model_free(self._model)

    def _free(self) -> None:
        if self._context is not None:
            self._library.llama_free(self._context)
            self._context = None


_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)
