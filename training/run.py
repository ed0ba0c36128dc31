"""One run from what a user asks to a record: data, model, loop, judgement, export."""

import hashlib
import json
import math
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from torch.utils.data import Dataset, Subset
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints.json_file import read_json
from bitsim.runtime.whole import whole_file

from .data import Ordered, Prepared, Sequences, find_source, prepare
from .energy import Meter
from .export import export, save_master
from .loop import Loop, Outcome, Pace, Progress, arguments_of, checkpoints, run_loop
from .model import build_model, counts, scheme_norms, training_spec
from .on_cpu import suit_cpu
from .precision import precision_of
from .quantize import SCHEMES
from .recipe import Recipe, recipe_for
from .records import RECORD, machine, read_record, versions, write_record
from .request import Means, Request
from .start import Start, start_from

Tell = Callable[[str], None]


class Stopped(BitsimError):  # noqa: N818 nothing is wrong
    """The process was asked to stop, and has saved what it had."""


REQUEST = "request.json"
_MICRO_TOKENS = {"cpu": 4096, "cuda": 32768}  # tokens that a device takes at once: what its caches, its memory like
_JUDGED = 64  # sequences of the held-out text that are looked at on the way; at the end all are
_FADE = 1000  # steps: Hugging Face's post on fine-tuning to 1.58 bits, the schedule it settled on
_GRACE = 10.0  # seconds that torchrun has to end the processes whose first one has failed
_LOGS, _EVALUATIONS, _SAVES = 200, 20, 20  # about as many of each in a run


def _silent(what: str) -> None:
    pass


def _unheard(step: int, steps: int, tokens: int, loss: float) -> None:
    pass


def train(request: Request, means: Means, tell: Tell = _silent, progress: Progress = _unheard) -> dict[str, Any]:
    """Train one model and return its record, which then also lies in the run's folder with the exported model.

    A run that is recorded already is not made again. Under torchrun each process calls this; the first one writes.

    Raises:
        BitsimError: data, checkpoint or options are wrong, the run was interrupted before and `resume` is not asked,
            another process is at it, the model diverged, or the disk is full.
    """
    run = means.output / request.name
    if (run / RECORD).exists():
        return read_record(run / RECORD)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    state = PartialState(cpu=not torch.cuda.is_available())
    try:
        _begin(run, means.resume, state)
        with _alone(run, means.patience, state):
            state.wait_for_everyone()
            if (run / RECORD).exists():  # the process that was waited for has made it
                return read_record(run / RECORD)
            return _train(request, means, run, state, tell, progress)
    except Stopped:
        if not state.is_main_process:
            raise SystemExit(1) from None  # the first process says so
        raise
    except BitsimError:
        if not state.is_main_process:
            # The first process has met the same error, most likely: then it says so, and torchrun ends this one.
            time.sleep(_GRACE)
        raise


def is_first_process() -> bool:
    """Whether this process is the one, of those that share a run, that speaks and writes."""
    return bool(PartialState(cpu=not torch.cuda.is_available()).is_main_process)


def _train(
    request: Request, means: Means, run: Path, state: PartialState, tell: Tell, progress: Progress
) -> dict[str, Any]:
    start = None if request.start is None else start_from(request.start, request.scheme, norms=request.norms)
    data = _data(request, means, start, state, tell)
    if state.is_main_process:
        _note_request(run, request, data)
    model = start.model if start is not None else _fresh(request, data)
    size = counts(model)
    # Norms don't count here: the twins differ in them, and are to see the same tokens.
    tokens = request.tokens or request.tokens_per_parameter * (size["parameters"] - size["other"])
    recipe = _recipe(request, size["non_embedding"], tokens)
    pace = _pace(request, means, recipe, tokens, state.num_processes)
    tell(f"{request.name}: {size['parameters']:,} parameters, {pace.steps:,} steps")
    loop = _loop(request, means, run, model, recipe, pace, data)
    meter = Meter(accelerator=torch.cuda.is_available())
    outcome = run_loop(loop, progress)
    if not outcome.finished:
        raise Stopped(f"{run}: stopped at step {outcome.steps:,} of {pace.steps:,}, and saved: --resume goes on")
    joules = meter.stop()
    tell("judging the model by the whole held-out text")
    loss = float(loop.evaluate(_sequences(data, "held_out", request))["eval_loss"])
    record = _record(request, recipe, pace, data, size, model, outcome)
    record |= {"run": request.name, "held_out_loss": loss, "bits_per_byte": _bits_per_byte(loss, data)}
    record["unigram_loss"] = data.unigram_loss()
    record |= {"energy_j": joules[0], "energy_source": joules[1]}
    whole = loop.whole_model()
    if whole is not None:
        tell("writing the model")
        record["remarks"] = _write_models(whole.eval(), request, data, start, run)
        write_record(run, record)
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
    state.wait_for_everyone()
    return record


def _begin(run: Path, resume: bool, state: PartialState) -> None:
    """Make the run's folder, if it is not there; refuse to begin anew over what was interrupted."""
    found = checkpoints(run)
    if found and not resume:
        raise BitsimError(
            f"{run}: this run was interrupted at {found[-1].name}: --resume goes on with it, or remove the folder"
        )
    if state.is_main_process:
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BitsimError(f"{run}: {error.strerror or error}") from error


@contextmanager
def _alone(run: Path, patience: float, state: PartialState) -> Iterator[None]:
    """See to it that no other process trains the same run; wait some seconds for one that does."""
    if not state.is_main_process:
        yield
        return
    lock = FileLock(run / ".lock", timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        raise BitsimError(f"{run}: another process is training this run") from None
    try:
        yield
    finally:
        lock.release()


def _data(request: Request, means: Means, start: Start | None, state: PartialState, tell: Tell) -> Prepared:
    """Open the tokens that the request means, made before or made now; runs of a folder share them.

    Of several processes the first one makes them. The others wait for its lock, not at a barrier, whose patience ends
    after minutes.
    """
    tokenizer = None if start is None else start.tokenizer
    words = request.vocab if tokenizer is None else hashlib.sha256(tokenizer).hexdigest()
    source = find_source(request.data).identity()
    key = json.dumps([source, request.limit, words], sort_keys=True)
    folder = means.output / "data"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / hashlib.sha256(key.encode()).hexdigest()[:8]
    if not state.is_main_process:
        state.wait_for_everyone()
    with FileLock(folder / ".lock"):
        if state.is_main_process:
            state.wait_for_everyone()
        if start is None:
            return prepare(request.data, place, vocab=request.vocab, limit=request.limit, tell=tell)
        eos = next(iter(start.text.eos), None)
        return prepare(request.data, place, tokenizer=tokenizer, eos=eos, limit=request.limit, tell=tell)


def _note_request(run: Path, request: Request, data: Prepared) -> None:
    """Write what the run is made from beside its checkpoints; refuse to go on with other data."""
    file = run / REQUEST
    if file.exists():
        known = read_json(file).get("data_hash")
        if known != data.hash:
            raise BitsimError(
                f"{run}: was begun with other text than {request.data} holds now: remove it to begin anew"
            )
        return
    with whole_file(file) as part:
        part.write_text(json.dumps({**asdict(request), "data_hash": data.hash}, indent=1) + "\n", encoding="utf-8")


def _fresh(request: Request, data: Prepared) -> PreTrainedModel:
    spec = training_spec(
        str(request.size), data.vocab, scheme=request.scheme, context=request.context, norms=request.norms
    )
    return build_model(spec, request.scheme, norms=request.norms, seed=request.seed, eos=data.eos)


def _recipe(request: Request, non_embedding: float, tokens: float) -> Recipe:
    """Return the recipe; what fades in does so within a tenth of the run."""
    recipe = recipe_for(
        request.recipe,
        non_embedding,
        tokens,
        request.context,
        trained=request.start is not None,
        peak=request.learning_rate,
        schedule=request.schedule,
        weight_decay=request.weight_decay,
        batch_tokens=request.batch_tokens,
        strength_steps=request.strength_steps,
    )
    if request.start is None or request.strength_steps is not None or SCHEMES[request.scheme] is None:
        return recipe
    return replace(recipe, strength_steps=min(_FADE, int(tokens / recipe.batch_tokens) // 10))


def _pace(request: Request, means: Means, recipe: Recipe, tokens: float, devices: int) -> Pace:
    """Cut the run into steps: whole sequences on each device, as many micro-batches on each."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    sequences = recipe.batch_tokens // request.context
    share = sequences // devices
    if sequences % devices:
        raise BitsimError(f"{devices} processes can't share {sequences} sequences a step: expected a divisor")
    if means.micro_batch is not None and share % means.micro_batch:
        expected = f"a divisor of {share} sequences a device and step"
        raise BitsimError(f"micro-batch: expected {expected}, got {means.micro_batch}")
    most = max(_MICRO_TOKENS[kind] // request.context, 1)
    micro = means.micro_batch or next(size for size in range(min(most, share), 0, -1) if share % size == 0)
    steps = max(round(tokens / recipe.batch_tokens), 1)
    precision = precision_of(request.precision, request.scheme)
    if devices > 1:  # the first one's, where it was measured
        (precision,) = broadcast_object_list([precision])
    return Pace(
        steps=steps,
        sequences=sequences,
        micro_batch=micro,
        devices=devices,
        precision=precision,
        log_every=max(steps // _LOGS, 1),
        evaluate_every=means.evaluate_every or max(steps // _EVALUATIONS, 1),
        save_every=means.save_every or max(steps // _SAVES, 1),
        sharded=means.fsdp and devices > 1,
    )


def _sequences(data: Prepared, side: str, request: Request) -> Sequences:
    return Sequences(data.train if side == "train" else data.held_out, request.context)


def _loop(
    request: Request, means: Means, run: Path, model: PreTrainedModel, recipe: Recipe, pace: Pace, data: Prepared
) -> Loop:
    learnt: Dataset[Any] = Ordered(_sequences(data, "train", request), pace.steps * pace.sequences, request.seed)
    judged = _sequences(data, "held_out", request)
    stride = max(len(judged) // _JUDGED, 1)
    seen: Dataset[Any] = Subset(judged, range(0, len(judged), stride)[:_JUDGED])
    extra: dict[str, Any] = {"report_to": means.report_to, "run_name": request.name}
    if not torch.cuda.is_available():
        suit_cpu(model)
    if means.gradient_checkpointing:
        model.activation_checkpointing_enable()
    arguments = arguments_of(run, recipe, pace, request.seed, extra)
    return Loop(model, recipe, pace, (learnt, seen), arguments, _teacher(request, data))


def _teacher(request: Request, data: Prepared) -> tuple[PreTrainedModel, float] | None:
    if request.teacher is None:
        return None
    try:
        model = AutoModelForCausalLM.from_pretrained(request.teacher, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise BitsimError(f"{request.teacher}: expected a Hugging Face folder to distil from ({error})") from None
    if model.config.vocab_size != data.vocab:
        has = f"{model.config.vocab_size:,} tokens, the data {data.vocab:,}"
        raise BitsimError(f"{request.teacher}: the teacher has {has}: expected the same tokenizer")
    return model.eval().requires_grad_(False), request.teacher_weight


def _bits_per_byte(loss: float, data: Prepared) -> float:
    """Return the held-out loss (nats per token) as bits per byte of text, which no tokenizer changes."""
    return loss / math.log(2) * len(data.held_out) / data.held_out_bytes


def _record(
    request: Request,
    recipe: Recipe,
    pace: Pace,
    data: Prepared,
    size: dict[str, int],
    model: PreTrainedModel,
    outcome: Outcome,
) -> dict[str, Any]:
    tokens = pace.steps * recipe.batch_tokens
    losses = [row["loss"] for row in outcome.curve if "loss" in row]
    config = model.config
    return {
        **asdict(request),
        **asdict(pace),
        **size,
        "recipe": recipe.name,
        "hyper_parameters": asdict(recipe),
        "learning_rate": recipe.peak,
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "heads": config.num_attention_heads,
        "ffn": config.intermediate_size,
        "vocab": config.vocab_size,
        "norms": _norms(request, model),
        "tokens": tokens,
        "tokens_per_parameter": tokens / (size["parameters"] - size["other"]),
        "batch_tokens": recipe.batch_tokens,
        "train_loss": losses[-1] if losses else None,
        "seconds": outcome.seconds,
        "tokens_per_s": tokens / outcome.seconds if outcome.seconds else None,
        "peak_memory_bytes": _peak_memory(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else machine()["cpu"],
        "machine": machine(),
        "data_hash": data.hash,
        "tokenizer_hash": hashlib.sha256(data.tokenizer.read_bytes()).hexdigest(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "curve": outcome.curve,
    }


def _norms(request: Request, model: PreTrainedModel) -> str:
    """Return which norms the model has besides Llama's; of a checkpoint, those it came with or was given."""
    if request.start is None or request.norms == "inside":
        return scheme_norms(request.scheme, request.norms)
    return "sub" if model.config.model_type == "bitnet" else "none"


def _peak_memory() -> int:
    """Return the most bytes that this process has held: of the GPU where there is one."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _write_models(
    model: PreTrainedModel, request: Request, data: Prepared, start: Start | None, run: Path
) -> list[str]:
    """Write the model to run, `model`, and where that holds less than was trained the one to go on from, `master`.

    Returns what a user of `model` should know.
    """
    text = data.tokenizer if start is None else start.text
    for half in ("model", "master"):  # of a process that died before it could write the record
        shutil.rmtree(run / half, ignore_errors=True)
    remarks = export(model, request.scheme, text, run / "model")
    if SCHEMES[request.scheme] is not None:
        save_master(model, text, run / "master")
    return remarks
