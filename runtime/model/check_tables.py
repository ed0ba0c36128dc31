"""Whether the tables of an assembled model lead only to what is there: compiled code follows them unchecked."""

from bitsim.energy_tables import BitsimError

from ..kernels.dense import padded
from ..packing import CODECS
from . import step
from .assembly import Assembled, Int64
from .config import check_covered

_LARGEST = 1 << 31  # rows x tokens and the like are reckoned in 64 bits; a dimension is far below this


def check_tables(model: Assembled, where: str) -> None:
    """Check every offset and shape of a model's tables against its arrays and its configuration.

    Raises:
        BitsimError: one does not fit; the table and the layer are named.
    """
    spec = model.config.spec
    check_covered(spec)
    _expect(f"{where}: products", model.products.shape, (spec.layers, step.PRODUCTS, step.FIELDS))
    _expect(f"{where}: norms", model.norms.shape, (spec.layers, 6))
    _expect(f"{where}: embedding", model.embedding.bits.shape, (spec.vocab, padded(spec.hidden)))
    if model.head is not None:
        _expect(f"{where}: head", model.head.bits.shape, (spec.vocab, padded(spec.hidden)))
    if spec.tied_head != (model.head is None):
        raise BitsimError(f"{where}: head: expected {'none' if spec.tied_head else 'one'}, as the configuration says")
    if len(model.matrices) % 2:
        raise BitsimError(f"{where}: matrices: expected an even number of bytes, got {len(model.matrices):,}")
    _floats(f"{where}: output_norm", model, model.output_norm, spec.hidden)
    for layer in range(spec.layers):
        _check_norms(f"{where}: norms, layer {layer}", model, layer)
        _check_layer(f"{where}: products, layer {layer}", model, layer)


def _check_norms(where: str, model: Assembled, layer: int) -> None:
    spec, norms = model.config.spec, model.norms[layer]
    widths = {
        step.ATTENTION_NORM: spec.hidden,
        step.FFN_NORM: spec.hidden,
        step.ATTENTION_SUB_NORM: spec.query_width,
        step.FFN_SUB_NORM: spec.ffn,
        step.Q_NORM: spec.head_dim,
        step.K_NORM: spec.head_dim,
    }
    for norm, width in widths.items():
        if norms[norm] != step.NONE or norm in (step.ATTENTION_NORM, step.FFN_NORM):
            _floats(where, model, int(norms[norm]), width)


def _check_layer(where: str, model: Assembled, layer: int) -> None:
    spec, products = model.config.spec, model.products[layer]
    heads = spec.heads + 2 * spec.kv_heads
    parts = (
        (step.ATTENTION_IN, step.OUT, spec.hidden, spec.head_dim, heads),
        (step.OUT, step.FFN_IN, spec.query_width, spec.hidden, 1),
        (step.FFN_IN, step.DOWN, spec.hidden, spec.ffn, 2),
        (step.DOWN, step.PRODUCTS, spec.ffn, spec.hidden, 1),
    )
    for first, last, columns, unit, units in parts:
        done = 0  # units of this input that products have written so far
        for product in products[first:last]:
            if product[step.KIND] == step.ABSENT:
                continue
            _check_product(where, model, product, columns)
            if product[step.FIRST_UNIT] != done or product[step.ROWS] % unit:
                raise BitsimError(f"{where}: rows {product[step.ROWS]:,}: expected multiples of {unit:,}, in order")
            done += int(product[step.ROWS]) // unit
        if done != units:
            raise BitsimError(f"{where}: expected {units} x {unit:,} rows, got {done} x {unit:,}")


def _check_product(where: str, model: Assembled, product: Int64, columns: int) -> None:
    kind, place, size, rows = (int(product[field]) for field in (step.KIND, step.WEIGHT, step.SIZE, step.ROWS))
    if kind not in (step.TERNARY, step.HALF, step.BRAIN):
        raise BitsimError(f"{where}: kind: expected 0 to 3, got {kind}")
    if not 0 < rows < _LARGEST or product[step.COLUMNS] != columns:
        raise BitsimError(f"{where}: expected {columns:,} columns, got {rows:,} x {product[step.COLUMNS]:,}")
    ternary = kind == step.TERNARY
    expected = CODECS[model.packing].packed_bytes(rows, columns) if ternary else 2 * rows * padded(columns)
    if size != expected or place % 2 or not 0 <= place <= len(model.matrices) - size:
        total = len(model.matrices)
        raise BitsimError(f"{where}: expected {expected:,} of {total:,} bytes, got {size:,} from {place:,} on")
    if ternary:
        _floats(where, model, int(product[step.SCALE]), rows)
    if product[step.BIAS] != step.NONE:
        _floats(where, model, int(product[step.BIAS]), rows)
    if product[step.NORM] != step.NONE:
        _floats(where, model, int(product[step.NORM]), columns)
        _floats(where, model, int(product[step.EPSILON]), 1)


def _floats(where: str, model: Assembled, place: int, count: int) -> None:
    if not 0 <= place <= len(model.floats) - padded(count):
        raise BitsimError(f"{where}: expected a place of {count:,} among {len(model.floats):,} floats, got {place:,}")


def _expect(where: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise BitsimError(f"{where}: expected shape {expected}, got {found}")
