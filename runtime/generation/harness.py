"""A model as EleutherAI's lm-evaluation-harness wants it.

lm_eval.simple_evaluate(model=harness_model(load(path)), tasks=["arc_easy"])
"""

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from bitsim.energy_tables import BitsimError

from ..heads.head import Ids
from .chat import ChatTemplate
from .conversation import common_prefix
from .evaluate import log_likelihoods, scores, windows
from .generate import generate_batch
from .language_model import LanguageModel
from .sampling import Sampling
from .session import Request, check_tokens, start_tokens
from .tokenizer import Tokenizer

_CONTEXT = 4096  # tokens, where the model has room for more
_NEW_TOKENS = 256  # the harness's own default


class Instance(Protocol):
    """One request of the harness."""

    @property
    def args(self) -> tuple[Any, ...]:
        """What is asked: texts, or a text and settings."""
        ...


class HarnessModel:
    """Answers the harness's three kinds of requests."""

    def __init__(self, model: LanguageModel) -> None:
        """Take a model with a tokenizer."""
        self._model = model
        self._tokenizer = Tokenizer(model.text)
        self._context = min(model.context, _CONTEXT)
        self._sequence = model.sequence(self._context)
        self._read: Ids = np.array([], np.int64)  # what the sequence holds

    @property
    def tokenizer_name(self) -> str:
        """What the harness calls its cache of prompts."""
        return self._model.config.spec.name

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return a conversation as text."""
        return ChatTemplate(self._model.text).render(chat_history, add_generation_prompt=add_generation_prompt)

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return for each (context, continuation) ln p of the continuation, and whether it is the greedy answer."""
        return [self._continuation(*self._pair(*request.args)) for request in requests]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return for each (text,) ln p of the whole text, in windows that do not overlap."""
        return [self._whole(request.args[0]) for request in requests]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return for each (context, settings) the answer up to one of the settings' `until`."""
        made = [self._request(*request.args) for request in requests]
        return [answer.text for answer in generate_batch(self._model, made, tokenizer=self._tokenizer)]

    def _pair(self, context: str, continuation: str) -> tuple[Ids, Ids]:
        """Return both as tokens, cut where the context's own tokens end; spaces between belong to the continuation."""
        if not context:
            return self._begin(), self._encode(continuation)
        kept = context.rstrip()
        continuation = context[len(kept) :] + continuation
        before = self._encode(kept, bos=True)
        return before, self._encode(kept + continuation, bos=True)[len(before) :]

    def _continuation(self, before: Ids, after: Ids) -> tuple[float, bool]:
        if len(after) > self._context:
            raise BitsimError(f"a continuation has {len(after):,} tokens, the model's context is {self._context:,}")
        tokens = np.concatenate([before, after])[-(self._context + 1) :]
        if not len(after):
            return 0.0, True
        hidden = self._hidden_states(tokens[:-1], len(after))
        found = [(float(log.sum()), bool(likeliest.all())) for log, likeliest in scores(self._model, hidden, after)]
        return sum(log for log, _ in found), all(likeliest for _, likeliest in found)

    def _hidden_states(self, tokens: Ids, last: int) -> Any:
        """Return the hidden states of the `last` tokens; what the request before began with too is not read again."""
        check_tokens(self._model, tokens)
        first = len(tokens) - last
        shared = min(common_prefix(self._read, tokens), first)
        self._sequence.truncate(shared)
        self._read = tokens[:0]  # until all went well
        if first > shared:
            self._model.step([(self._sequence, tokens[shared:first])])
        hidden = self._model.hidden_states(self._sequence, tokens[first:])
        self._read = tokens
        return hidden

    def _whole(self, text: str) -> float:
        tokens = check_tokens(self._model, np.concatenate([self._begin(), self._encode(text)]))
        cut = windows(len(tokens), self._context, self._context)
        return float(sum(log_likelihoods(self._model, tokens, window).sum() for window in cut))

    def _request(self, context: str, settings: dict[str, Any]) -> Request:
        until = settings.get("until") or ()
        new = int(settings.get("max_gen_toks") or settings.get("max_new_tokens") or _NEW_TOKENS)
        new = min(new, self._context - 1)
        prompt = self._encode(context, bos=True)[-(self._context - new) :]
        drawn = settings.get("do_sample", True)
        sampling = Sampling(
            temperature=float(settings.get("temperature") or 0.0) if drawn else 0.0,
            top_k=int(settings.get("top_k") or 0),
            top_p=float(settings.get("top_p") or 1.0),
        )
        stop = (until,) if isinstance(until, str) else tuple(until)
        return Request(prompt=prompt, max_new_tokens=new, sampling=sampling, stop=stop)

    def _encode(self, text: str, *, bos: bool = False) -> Ids:
        return self._tokenizer.encode(text, bos=bos)

    def _begin(self) -> Ids:
        return start_tokens(self._tokenizer)


def harness_model(model: LanguageModel) -> Any:
    """Return an `lm_eval.api.model.LM`; a BitsimError where the package lm-eval is not installed."""
    try:
        base = importlib.import_module("lm_eval.api.model").LM
    except ImportError as error:
        raise BitsimError("evaluation tasks need the package lm-eval: pip install lm-eval") from error

    class Harnessed(HarnessModel, base):  # type: ignore[misc, valid-type]
        """Both: the harness asks for its own class."""

        def __init__(self) -> None:
            base.__init__(self)
            HarnessModel.__init__(self, model)

    return Harnessed()
