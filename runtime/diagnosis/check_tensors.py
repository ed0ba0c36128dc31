"""Tensors by themselves: numbers and codes that are none, names that nobody reads or that are missed."""

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..checkpoints.checkpoint import LINEARS
from .codes import Census, Codes, pieces
from .contents import Contents, Tensor
from .finding import ERROR, WARNING, Finding
from .tensor_names import is_left_over, layer_of, names_read

AGAIN = "get the file again, or convert the original again (bitsim convert ORIGINAL NEW)"
_BEFORE_O, _BEFORE_DOWN = re.compile("attn_sub_norm|inner_attn_ln"), re.compile("ffn_sub_norm|ffn_layernorm")
_FEW = 256  # weights; of fewer, what is shared out unevenly may be chance
_NAMED = 3  # tensors named in a sentence; the rest is counted

Progress = Callable[[int, int], None]


def check_tensors(contents: Contents, progress: Progress) -> Iterator[Finding]:
    """Look at each tensor's numbers and codes."""
    broken: list[Tensor] = []
    illegal: list[tuple[Tensor, Census]] = []
    lopsided: list[tuple[Tensor, Census]] = []
    empty: list[Tensor] = []
    for done, tensor in enumerate(contents.tensors):
        progress(done, len(contents.tensors))
        if _not_finite(contents, tensor):
            broken.append(tensor)
            continue
        census = tensor.count()
        if census is None:
            continue
        if census.codes.illegal:
            illegal.append((tensor, census))
        elif not census.codes.minus and not census.codes.plus:
            empty.append(tensor)
        elif _lopsided(census.codes):
            lopsided.append((tensor, census))
    yield from _numbers(broken, empty)
    yield from _codes(illegal, lopsided)


def _not_finite(contents: Contents, tensor: Tensor) -> bool:
    """Whether a tensor holds a NaN or infinity; a matrix of blocks is looked at when the model is judged, and once."""
    in_blocks = tensor.kind not in ("F32", "F16", "BF16") and tensor.tensor_class in LINEARS
    if tensor.stored is None or (in_blocks and contents.checkpoint is not None):
        return False
    return any(not np.isfinite(part).all() for part in pieces(tensor.stored))


def _numbers(broken: Sequence[Tensor], empty: Sequence[Tensor]) -> Iterator[Finding]:
    if broken:
        what = "tensors hold numbers that are not finite (NaN or infinity): every answer becomes nonsense"
        yield Finding(ERROR, "not-finite", what, named([tensor.name for tensor in broken]), AGAIN)
    if empty:
        what = "matrices hold nothing but zeros: what they compute is lost"
        yield Finding(ERROR, "zero-matrix", what, named([tensor.name for tensor in empty]), AGAIN)


def _codes(illegal: Sequence[tuple[Tensor, Census]], lopsided: Sequence[tuple[Tensor, Census]]) -> Iterator[Finding]:
    if illegal:
        count = sum(census.codes.illegal for _, census in illegal)
        what = "bytes of ternary matrices are no code: the file is damaged, or was packed with another offset"
        yield Finding(ERROR, "illegal-codes", what, f"{count:,} or more, in {_named_tensors(illegal)}", AGAIN)
    if lopsided:
        tensor, census = lopsided[0]
        codes = census.codes
        shares = ", ".join(f"{count / codes.total:.1%}" for count in (codes.minus, codes.zero, codes.plus))
        what = "-1 and +1 are shared out unevenly, as when codes are read with a wrong offset"
        evidence = f"{tensor.name}: -1, 0, +1: {shares}; so in {_named_tensors(lopsided)}"
        yield Finding(ERROR, "lopsided-codes", what, evidence, AGAIN)


def _lopsided(codes: Codes) -> bool:
    """Whether one sign has over three times as many weights as the other: training keeps them about even."""
    few, many = sorted((codes.minus, codes.plus))
    return many > _FEW and many > 3 * few


def check_names(contents: Contents) -> Iterator[Finding]:
    """Look for sub-norms that are not there, and for tensors that no reader looks at."""
    if contents.config is None or contents.form not in ("gguf", "hf"):
        return
    spec, names = contents.config.spec, {tensor.name for tensor in contents.tensors}
    layers = [len({layer_of(name) for name in names if kind.search(name)}) for kind in (_BEFORE_O, _BEFORE_DOWN)]
    if _has_sub_norms(contents) and min(layers) < spec.layers:
        yield Finding(
            ERROR,
            "missing-sub-norms",
            "the family has norms before the attention's output and before the feed-forward's; the file lacks them",
            f"'{contents.architecture}': attn_sub_norm in {layers[0]} of {spec.layers} layers, "
            f"ffn_sub_norm in {layers[1]}",
            "convert the original again with a program that knows the family (bitsim convert ORIGINAL NEW)",
        )
    unread = names - names_read(spec, contents.form, contents.quantisation)
    if contents.form == "hf" and contents.quantisation is None:
        unread = {name for name in unread if not name.endswith("_scale")}  # of packed weights: `check_readable` says so
    yield from _unread(contents, sorted(name for name in unread if not is_left_over(name)))


def _has_sub_norms(contents: Contents) -> bool:
    return contents.architecture is not None and contents.architecture.startswith("bitnet")


def _unread(contents: Contents, names: Sequence[str]) -> Iterator[Finding]:
    norms = [name for name in names if _BEFORE_O.search(name) or _BEFORE_DOWN.search(name)]
    if norms:
        yield Finding(
            ERROR,
            "unread-sub-norms",
            f"the file has sub-norms, but says '{contents.architecture}', whose readers leave them out",
            named(norms),
            "name the family that the model was trained as: bitnet",
        )
    others = [name for name in names if name not in norms and name not in ("lm_head.weight", "output.weight")]
    if others:
        yield Finding(
            WARNING,
            "unread-tensors",
            f"no reader of '{contents.architecture}' looks at some of the tensors: what was trained with them is lost",
            named(others),
            "correct the configuration (biases, norms of heads, family), or convert the original again",
        )


def check_head(contents: Contents) -> Iterator[Finding]:
    """Look whether the output head is what the configuration says: the embedding, or a matrix of its own."""
    if contents.form != "hf" or contents.config is None:
        return
    tensors = {tensor.name: tensor for tensor in contents.tensors}
    head, embedding = tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    tied = contents.config.spec.tied_head
    if head is None and not tied:
        yield Finding(
            ERROR,
            "head",
            "the configuration says that the head is a matrix of its own, and there is none",
            "tie_word_embeddings: false; no tensor lm_head.weight",
            'set "tie_word_embeddings": true in config.json, if the model was trained so',
        )
    if head is not None and embedding is not None and tied and not _equal(head, embedding):
        yield Finding(
            ERROR,
            "head",
            "the file has a head of its own, and the configuration says to use the embedding in its place",
            "tie_word_embeddings: true; lm_head.weight differs from model.embed_tokens.weight",
            'set "tie_word_embeddings": false in config.json',
        )


def _equal(one: Tensor, other: Tensor) -> bool:
    assert one.stored is not None
    assert other.stored is not None
    if one.shape != other.shape:
        return False
    pairs = zip(pieces(one.stored), pieces(other.stored), strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


def check_master_weights(contents: Contents) -> Iterator[Finding]:
    """Look whether weights that are made ternary when used are ternary already."""
    if contents.quantisation is None or not contents.quantisation.online:
        return
    counted = [
        (t, t.count()) for t in contents.tensors if t.tensor_class in LINEARS and t.kind in ("F32", "F16", "BF16")
    ]
    found = [(tensor, census) for tensor, census in counted if census is not None]
    if found:
        tensor, census = found[0]
        kept = 1 - census.codes.zero_fraction
        yield Finding(
            ERROR,
            "requantised",
            "readers make these weights ternary by their mean size, but they are ternary already: every scale shrinks "
            "to the share of weights that are not 0",
            f"{tensor.name}: three values, 0 and ±{census.scale_high:.4g}, {kept:.1%} not 0: it is used as "
            f"±{kept * (census.scale_high or 0):.4g}; so in {_named_tensors(found)}",
            "put the master weights here; or take quantization_config out of config.json, so that the numbers count as "
            "they are, and make a ternary file of it with bitsim convert",
        )


def _named_tensors(tensors: Sequence[tuple[Tensor, Census]]) -> str:
    return named([tensor.name for tensor, _ in tensors])


def named(names: Sequence[str]) -> str:
    """Return the number of some tensors, and the first of them by name."""
    some = ", ".join(name[:200] for name in names[:_NAMED])
    return f"{len(names):,} tensor{'s' * (len(names) != 1)}: {some}{', ...' * (len(names) > _NAMED)}"
