"""The loop: transformers' Trainer with our schedules and order of data, and checkpoints whole or not there at all.

A step of the optimiser sees the same sequences in the same order however many devices share it and wherever the run
was interrupted: sequence k of the run belongs to step k // (sequences of a batch).
"""

import json
import math
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError
from torch.nn import functional
from torch.utils.data import Dataset, SequentialSampler
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from bitsim.energy_tables import BitsimError

from .bitlinear import check_finite, set_strength
from .recipe import BETAS, CLIP, Recipe
from .records import write_curve
from .shards import load_shares, shard, skeleton, whole_optimizer, whole_weights

CHECKPOINTS, _SAVING, _SPENT = "checkpoints", "saving", "spent.json"
_KEPT = 2  # checkpoints: should the newest be damaged, there is one before it
# Hears of a run: step, steps, tokens so far, loss.
Progress = Callable[[int, int, int, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a run is cut into steps, and how often it says, checks and saves something.

    Attributes:
        steps: of the optimiser.
        sequences: of one step on all devices together.
        micro_batch: sequences that one device takes at once.
        devices: processes that share a step.
        precision: of the products: "bf16", "fp16" (both with float32 weights behind) or "fp32".
        sharded: whether the devices share the weights and the optimiser too (FSDP), or each has its own (DDP).
    """

    steps: int
    sequences: int
    micro_batch: int
    devices: int
    precision: str
    log_every: int
    evaluate_every: int
    save_every: int
    sharded: bool = False

    @property
    def accumulation(self) -> int:
        """How often a device takes a micro-batch in one step."""
        return self.sequences // (self.micro_batch * self.devices)


@dataclass(slots=True)
class Outcome:
    """What a run came to: `curve` has a row for each step that was logged or evaluated."""

    steps: int
    curve: list[dict[str, Any]]
    seconds: float
    finished: bool


class Loop(Trainer):
    """A Trainer that follows a recipe; `teacher`, if any, is a model whose next-token odds are learned as well."""

    def __init__(
        self,
        model: PreTrainedModel,
        recipe: Recipe,
        pace: Pace,
        data: tuple[Dataset[Any], Dataset[Any]],
        arguments: TrainingArguments,
        teacher: tuple[PreTrainedModel, float] | None = None,
    ) -> None:
        """Take a model, how it learns, and the sequences to learn from and to be judged by."""
        self.recipe, self.pace = recipe, pace
        self.teacher = teacher
        if teacher is not None:
            listened: torch.nn.Module = teacher[0]
            listened.to(arguments.device)
        self.spent = 0.0
        self.run = Path(str(arguments.output_dir)).parent
        self._skeleton: PreTrainedModel | None = None
        super().__init__(model=model, args=arguments, train_dataset=data[0], eval_dataset=data[1])
        self.remove_callback(PrinterCallback)  # it prints every log to standard output

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        """Take the sequences as they come: their order is in the data (see `data.sequences`)."""
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(data)

    def _move_model_to_device(self, model: Any, device: Any) -> None:
        """Place the model, unless it is to be sharded: no device need hold the whole of it."""
        if not self.pace.sharded:
            super()._move_model_to_device(model, device)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Shard the model, if that is asked for, and make the optimiser of what this process has of it."""
        if not self.pace.sharded:
            return super().create_optimizer(model)
        if self._skeleton is None:
            whole: Any = self.model
            self._skeleton = skeleton(whole)
            shard(whole, self.args.device)
            # Sets autocast, and has accelerate leave the model alone when the Trainer prepares it.
            self.accelerator.prepare_model(whole, device_placement=False, evaluation_mode=True)
        optimizer = super().create_optimizer(model)
        load_shares(optimizer)
        return optimizer

    def whole_model(self) -> PreTrainedModel | None:
        """Return the model, of a sharded one a copy on the CPU; None but in the first process. All are to call this."""
        model: Any = self.accelerator.unwrap_model(self.model)
        if not self.pace.sharded:
            return model if self.is_world_process_zero() else None
        weights = whole_weights(model, self.is_world_process_zero())
        if self._skeleton is None or not self.is_world_process_zero():
            return None
        self._skeleton.load_state_dict(weights, strict=False, assign=True)
        self._skeleton.tie_weights()
        return self._skeleton

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model, whole."""
        if not self.pace.sharded:
            super().save_model(output_dir, _internal_call)
            return
        model: Any = self.model
        self._save(output_dir, whole_weights(model, self.is_world_process_zero()))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write both, whole."""
        if not self.pace.sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        optimizer: Any = self.optimizer
        schedule: Any = self.lr_scheduler
        state = whole_optimizer(optimizer, self.is_world_process_zero())
        if self.is_world_process_zero():
            torch.save(state, Path(output_dir) / "optimizer.pt")
            torch.save(schedule.state_dict(), Path(output_dir) / "scheduler.pt")

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make the schedule of the recipe."""
        if self.lr_scheduler is None:
            peak, steps = self.recipe.peak, self.pace.steps
            used: Any = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                used, lambda step: self.recipe.rate_at(step, steps) / peak
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss; with a teacher, partly the divergence from what it expects (1503.02531, section 2)."""
        if self.teacher is None or not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        teacher, weight = self.teacher
        with torch.no_grad():
            expected = teacher(input_ids=inputs["input_ids"]).logits[:, :-1].float().log_softmax(-1)
        own = outputs["logits"][:, :-1].float().log_softmax(-1)
        divergence = functional.kl_div(own, expected, reduction="none", log_target=True).sum(-1).mean()
        # All micro-batches are of one size, so the mean over a step is the mean of their means.
        total = (1 - weight) * loss + weight * divergence / self.current_gradient_accumulation_steps
        return (total, outputs) if return_outputs else total

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Take a micro-batch; what a layer finds wrong with its numbers is said with the step and the way back."""
        try:
            return super().training_step(model, inputs, num_items_in_batch)
        except BitsimError as error:
            raise BitsimError(_diverged(self.run, self.state.global_step + 1, str(error))) from error

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Return the mean loss of the sequences, each counting once however batches and processes share them.

        The Trainer's own lets those of a short last batch count for more.
        """
        model: Any = self.model
        model.eval()
        losses: list[float] = []  # a small tensor kept here would lie in the way of the next logits: gigabytes in all
        for inputs in dataloader:
            ids = self._prepare_input(inputs["input_ids"])
            with torch.no_grad():
                logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1).float()
            loss = functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
            losses += self.accelerator.gather_for_metrics(loss.view(len(ids), -1).mean(1)).tolist()
        mean = math.fsum(losses) / len(losses)
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": mean}, len(losses))  # type: ignore[arg-type]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint under another name and rename it when it is on the disk."""
        run, step, staging = self.run, self.state.global_step, self.run / _SAVING
        try:
            super()._save_checkpoint(model, trial)
            if self.is_world_process_zero():
                folder = staging / f"checkpoint-{step}"
                (folder / _SPENT).write_text(json.dumps({"seconds": self.spent}))
                _flush(folder)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise BitsimError(_refusal(run, step, error)) from error
        self.accelerator.wait_for_everyone()  # each process has written its own part
        if self.is_world_process_zero():
            target = run / CHECKPOINTS / _name(step)
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)
            for old in checkpoints(run)[:-_KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        self.accelerator.wait_for_everyone()


class _Conductor(TrainerCallback):
    """Sets what the recipe wants of a step, and sees to it that nothing is saved before its loss was looked at."""

    def __init__(self, loop: Loop, progress: Progress) -> None:
        self._loop, self._progress = loop, progress
        self._begun = 0.0
        self.stop = False

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self._begun = time.perf_counter()
        recipe, step = self._loop.recipe, state.global_step
        decay = recipe.decay_at(step, state.max_steps)
        for group in others["optimizer"].param_groups:
            if group["weight_decay"]:
                group["weight_decay"] = decay
        if recipe.strength_steps and step <= recipe.strength_steps:
            set_strength(others["model"], recipe.strength_at(step))

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self._loop.spent += time.perf_counter() - self._begun
        if self._is_asked():
            control.should_save = control.should_training_stop = True
        if control.should_save:
            control.should_log = True

    def _is_asked(self) -> bool:
        """Whether one of the processes was asked to stop: then all do, after the same step."""
        if self._loop.args.world_size == 1:
            return self.stop
        asked = torch.tensor(float(self.stop), device=self._loop.args.device)
        total: Any = self._loop.accelerator.reduce(asked)
        return bool(total > 0)

    def on_log(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        logs = others["logs"]
        loss = logs.get("loss", logs.get("eval_loss"))
        if loss is None:
            return
        if not _is_finite(loss) or not _is_finite(logs.get("grad_norm", 0.0)):
            raise BitsimError(_diverged(self._loop.run, state.global_step, _wrong_in(others["model"])))
        if not state.is_world_process_zero:
            return
        write_curve(self._loop.run, curve_of(self._loop))
        if "loss" in logs:
            tokens = state.global_step * self._loop.recipe.batch_tokens
            self._progress(state.global_step, state.max_steps, tokens, loss)


def arguments_of(run: Path, recipe: Recipe, pace: Pace, seed: int, extra: Mapping[str, Any]) -> TrainingArguments:
    """Return transformers' arguments; `extra` are further ones, such as report_to."""
    on_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(run / _SAVING),
        max_steps=pace.steps,
        per_device_train_batch_size=pace.micro_batch,
        per_device_eval_batch_size=pace.micro_batch,
        gradient_accumulation_steps=pace.accumulation,
        learning_rate=recipe.peak,
        weight_decay=recipe.weight_decay,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        max_grad_norm=CLIP,
        optim="adamw_torch_fused",
        logging_steps=pace.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=pace.evaluate_every,
        save_strategy="steps",
        save_steps=pace.save_every,
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        seed=seed,
        disable_tqdm=True,
        prediction_loss_only=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        bf16=pace.precision == "bf16",
        fp16=pace.precision == "fp16",
        **extra,
    )


def run_loop(loop: Loop, progress: Progress) -> Outcome:
    """Train to the end, or until the process is asked to stop (then the last step is saved).

    It goes on from the newest checkpoint, if there is one.

    Raises:
        BitsimError: the model diverged, a checkpoint is damaged, or the disk is full; the checkpoints before are left.
    """
    run = loop.run
    if loop.is_world_process_zero():
        shutil.rmtree(run / _SAVING, ignore_errors=True)
    loop.accelerator.wait_for_everyone()
    conductor = _Conductor(loop, progress)
    loop.add_callback(conductor)
    newest = next(iter(checkpoints(run)[-1:]), None)
    if newest is not None:
        loop.spent = _seconds_of(newest)
    with _stoppable(conductor, loop.args.world_size):
        _train(loop, newest)
    shutil.rmtree(run / _SAVING, ignore_errors=True)
    steps = loop.state.global_step
    return Outcome(steps, curve_of(loop), loop.spent, steps == loop.state.max_steps)


def _train(loop: Loop, newest: Path | None) -> None:
    """Call Trainer.train; what it makes of a damaged checkpoint becomes one line."""
    if newest is None:
        loop.train()
        return
    try:
        loop.train(resume_from_checkpoint=str(newest))
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        if loop.state.global_step > _step_of(newest):
            raise
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        hint = "remove this folder to go on from the one before"
        raise BitsimError(f"{newest}: the checkpoint can't be read ({first}); {hint}") from error


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run that are whole, oldest first."""
    return sorted(folder for folder in (run / CHECKPOINTS).glob("step-*") if re.fullmatch(r"step-\d{9}", folder.name))


def curve_of(loop: Loop) -> list[dict[str, Any]]:
    """Return the loss curve: step, tokens, loss (mean since the row before), held_out_loss and what else is known."""
    rows: dict[int, dict[str, Any]] = {}
    names = {
        "loss": "loss",
        "eval_loss": "held_out_loss",
        "learning_rate": "learning_rate",
        "grad_norm": "gradient_norm",
    }
    for entry in loop.state.log_history:
        found = {ours: entry[theirs] for theirs, ours in names.items() if theirs in entry}
        if found:
            step = int(entry["step"])
            row = rows.setdefault(step, {"step": step, "tokens": step * loop.recipe.batch_tokens})
            row.update(found)
    return [rows[step] for step in sorted(rows)]


def _name(step: int) -> str:
    return f"step-{step:09d}"


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _seconds_of(folder: Path) -> float:
    try:
        return float(json.loads((folder / _SPENT).read_text())["seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BitsimError(f"{folder / _SPENT}: expected the seconds that the run had taken ({error})") from None


def _is_finite(value: Any) -> bool:
    return bool(torch.isfinite(torch.as_tensor(value)))


def _last(run: Path) -> str:
    whole = checkpoints(run)
    return f"the last checkpoint is {whole[-1]}" if whole else "there is no checkpoint yet"


def _wrong_in(model: torch.nn.Module) -> str:
    """Return which numbers of a model are no numbers any more, if any."""
    try:
        check_finite(model)
    except BitsimError as error:
        return str(error)
    return "its loss or gradient is not a finite number"


def _diverged(run: Path, step: int, what: str) -> str:
    return f"step {step:,}: the model diverged: {what}; {_last(run)}. Try a lower --learning-rate"


def _refusal(run: Path, step: int, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
    return f"{run}: the checkpoint of step {step:,} could not be written ({reason[:200]}); {_last(run)}"


def _flush(folder: Path) -> None:
    """Wait until the files of a folder are on the disk: a name must not get there before what it stands for."""
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


@contextmanager
def _stoppable(conductor: _Conductor, devices: int) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the run after its step; a second one ends it at once.

    Each of several processes may hear of one Ctrl-C twice, from the terminal and from torchrun, which also kills those
    that take too long. So there a second one changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        conductor.stop = True
        if devices > 1:
            return
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in (signal.SIGINT, signal.SIGTERM):
        before[each] = signal.signal(each, ask)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
