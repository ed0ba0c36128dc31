"""The section on the model and what is asked of it."""

from ..parts import Cell, Number, Section
from . import cells
from .case import Case, load_of, named


def section(case: Case) -> Section:
    """Return shape, parameters, schemes and workload."""
    spec, work = case.question.spec, case.question.workload
    shape: list[tuple[str, Cell]] = [
        ("architecture", spec.architecture),
        ("layers", cells.count(spec.layers)),
        ("hidden width", cells.count(spec.hidden)),
        ("attention heads", cells.count(spec.heads)),
        ("heads of keys and values", cells.count(spec.kv_heads)),
        ("width of a head", cells.count(spec.head_dim)),
        ("FFN width", cells.count(spec.ffn)),
        ("vocabulary", cells.count(spec.vocab)),
        ("output head", "the embedding" if spec.tied_head else "of its own"),
    ]
    if spec.experts > 1:
        shape.append(("experts", f"{spec.experts:,}, of which {spec.experts_per_token:,} a token"))
    parameters = [
        ("layers' matrices, which a scheme quantises", cells.count(spec.parameters_linear)),
        ("embedding and head", cells.count(spec.parameters_embedding)),
        ("norms and the like", cells.count(spec.parameters_other)),
        ("all", cells.count(spec.parameters)),
    ]
    schemes = [
        (
            each.scheme.name,
            each.scheme.title,
            Number(each.scheme.weight_bits, f"{each.scheme.weight_bits:.3g}"),
            Number(each.scheme.activation_bits, f"{each.scheme.activation_bits:.3g}"),
            Number(each.scheme.head_bits, f"{each.scheme.head_bits:.3g}"),
            Number(each.scheme.kv_bits, f"{each.scheme.kv_bits:.3g}"),
        )
        for each in case.first
    ]
    load = (
        f"This is about {named(case.question)}, asked for {load_of(case.question)}; when the last token is made, each "
        f"sequence has {work.context:,} tokens in its KV cache. Embedding, head, norms, KV cache and the products of "
        "the attention stay in floating point, as in the published ternary models."
    )
    return Section(
        "model",
        "Model and workload",
        (load,),
        (
            cells.table(("shape", "value"), shape, "Shape of the model."),
            cells.table(("parameters", "number"), parameters, "Where the parameters are."),
            cells.table(
                ("scheme", "what it is", "weight bits", "input bits", "head bits", "KV bits"),
                schemes,
                "The schemes; a weight's bits are those it takes as packed.",
            ),
        ),
    )
