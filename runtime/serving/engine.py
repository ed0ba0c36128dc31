"""Answers many requests at once, on a thread of its own: requests join and leave between steps.

An answer is the one that `generate` gives alone, token for token, whatever else is in the engine.
"""

import threading
import time
from dataclasses import replace

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from ..generation.conversation import common_prefix
from ..generation.language_model import LanguageModel, Sequence
from ..generation.session import Outcome, Request, Session, prompt_tokens, room_for
from ..generation.speculation import Speculation
from ..generation.stop_strings import StopStrings
from ..generation.tokenizer import Tokenizer
from .counters import Counters
from .fair_queue import FairQueue
from .job import Job
from .prompt_cache import PromptCache
from .requests import Closed, Deliver, Delivery, Failure, Limits, QueueFull, Ticket, Usage

__all__ = ["Closed", "Counters", "Deliver", "Delivery", "Engine", "Failure", "Limits", "QueueFull", "Ticket", "Usage"]

WORTH = 16  # tokens shared from which on one prompt waits for another that reads the same

CANCELLED = Failure("the request was cancelled", ours=False)
ENDS = Failure("the server ends", ours=True)


class Engine:
    """One model's answers to many."""

    def __init__(
        self,
        model: LanguageModel,
        *,
        limits: Limits | None = None,
        speculate: bool | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """Start the thread.

        Args:
            model: what answers; the engine has it for itself.
            limits: how much is taken on.
            speculate: whether guessed tokens are checked along with the next: True for all that can be guessed, None
                where it makes answers quicker. Answers do not depend on it.
            tokenizer: the model's, if it was read before.
        """
        self.model, self.limits = model, limits or Limits()
        self.tokenizer = tokenizer or Tokenizer(model.text)
        self.context = min(model.context, self.limits.context or model.context)
        self._speculation = None if speculate is False else Speculation(always=speculate is True)
        self._session = self._new_session()
        self._cache = PromptCache(self.limits.cache_tokens)
        self._queue: FairQueue[Job] = FairQueue()
        self._begun: dict[int, Job] = {}  # by the number in the session
        self._followers: list[Job] = []  # wait for another to read what their prompts share with its
        self._counters = Counters()
        self._changed = threading.Condition()
        self._deadline: float | None = None  # of a closed engine
        self._thread = threading.Thread(target=self._work, name="bitsim-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, deliver: Deliver, *, user: str = "") -> Ticket:
        """Take a request, from any thread, and return at once.

        Args:
            request: what to answer.
            deliver: called on the engine's thread with each `Piece`, the last of which has `finish` set, or with a
                `Failure` as the last; it must be quick and not raise.
            user: whose request it is: users take turns.

        Raises:
            QueueFull: as many wait as the limits allow.
            Closed: the engine takes no more.
            BitsimError: the prompt is too long, or the request has no meaning.
        """
        StopStrings(request.stop)  # refuses what can't be a stop string, here and not on the engine's thread
        tokens = prompt_tokens(self.model, self.tokenizer, request.prompt, self.context)
        ticket = Ticket(len(tokens), self._wake)
        with self._changed:
            if self._deadline is not None:
                raise Closed("the server takes no more requests")
            if len(self._queue) >= self.limits.queue + self._free():
                self._counters.refused += 1
                raise QueueFull(f"{len(self._queue):,} requests wait, more than which this server does not take")
            self._queue.put(user, Job(ticket, request, tokens, deliver))
            self._counters.accepted_requests += 1
            self._changed.notify()
        return ticket

    def close(self, wait_s: float = 0.0) -> None:
        """Take no more requests, finish those taken within `wait_s` seconds, fail the rest, and end the thread."""
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + wait_s
            self._changed.notify()
        self._thread.join()

    @property
    def counters(self) -> Counters:
        """What the engine has done so far: a copy of one moment."""
        with self._changed:
            now = replace(self._counters, finished=dict(self._counters.finished))
            now.waiting, now.running, now.kept_tokens = len(self._queue), self._running(), self._cache.tokens
            return now

    def _new_session(self) -> Session:
        return Session(self.model, self.tokenizer, prefill=self.limits.prefill, speculation=self._speculation)

    def _running(self) -> int:
        return len(self._begun) + len(self._followers)

    def _free(self) -> int:
        return max(0, self.limits.together - self._running())

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _work(self) -> None:
        """Do steps until the engine is closed."""
        while self._wait():
            try:
                self._leave()
                self._join()
                self._step()
            except Exception as error:  # whatever it was, those who wait are told, and the next ones are served
                self._fail_running(Failure(_line(error), ours=True))
        self._fail_running(ENDS)
        with self._changed:
            waiting = self._queue.remove(lambda _: True)
        for job in waiting:
            self._finish(job, "failed", ENDS)
        self._cache.clear()

    def _wait(self) -> bool:
        """Wait for something to do; False where nothing more is to be done."""
        with self._changed:
            while not self._running() and not self._queue and self._deadline is None:
                self._changed.wait()
            if self._deadline is None:
                return True
            return time.monotonic() < self._deadline and bool(self._running() or self._queue)

    def _leave(self) -> None:
        """Let those go that were cancelled."""
        with self._changed:
            gone = self._queue.remove(lambda job: job.ticket.cancelled)
            gone += [job for job in self._followers if job.ticket.cancelled]
            self._followers = [job for job in self._followers if not job.ticket.cancelled]
        for number, job in list(self._begun.items()):
            if job.ticket.cancelled:
                self._session.drop([number])
                self._end(number, keep=True)
                gone.append(job)
        for job in gone:
            self._finish(job, "cancelled", CANCELLED)

    def _join(self) -> None:
        """Begin with followers whose prompt others have read far enough, then with those that wait."""
        for job in list(self._followers):
            self._begin(job)
        while True:
            with self._changed:
                if not self._queue or not self._free():
                    return
                job = self._queue.take()
                job.begin(self._counters)
                self._followers.append(job)
            self._begin(job)

    def _begin(self, job: Job) -> None:
        """Put a job into the session with what others have read of its prompt; it stays a follower if more will come.

        To wait for another that is about to read the same pays: the two would read it in the same steps.
        """
        wanted = job.prompt[:-1]  # the last token is read in any case: the answer begins with what follows it
        source, shared = self._cache.longest(wanted)
        to_come = 0
        for other in self._begun.values():
            assert other.sequence is not None
            common = common_prefix(other.prompt, wanted)
            to_come = max(to_come, common)
            if min(common, other.sequence.length) > shared:
                source, shared = other.sequence, min(common, other.sequence.length)
        if to_come >= shared + WORTH:
            return
        try:
            number = self._add(job, source, shared)
        except (BitsimError, MemoryError) as error:
            with self._changed:
                self._followers.remove(job)
            self._finish(job, "failed", Failure(_line(error), ours=True))
            return
        with self._changed:
            self._followers.remove(job)
            self._begun[number] = job
            self._counters.cached_tokens += shared

    def _add(self, job: Job, source: Sequence | None, shared: int) -> int:
        room = room_for(self.context, len(job.prompt), job.request.max_new_tokens)
        sequence = self.model.sequence(room)
        if source is not None:
            sequence.copy_from(source, shared)
        job.sequence = sequence
        job.ticket.usage = replace(job.ticket.usage, cached_tokens=shared)
        return self._session.add(job.request, sequence)

    def _step(self) -> None:
        """Do a step and deliver what comes of it."""
        start = time.monotonic()
        outcomes = self._session.advance()
        seconds = time.monotonic() - start
        with self._changed:
            self._counters.steps += 1
            self._counters.step_s += seconds
            self._counters.longest_step_s = max(self._counters.longest_step_s, seconds)
            for outcome in outcomes:
                self._begun[outcome.request].advance(outcome, self._counters)
        for outcome in outcomes:
            self._deliver(outcome)

    def _deliver(self, outcome: Outcome) -> None:
        job = self._begun[outcome.request]
        if outcome.error:
            self._end(outcome.request, keep=False)
            self._finish(job, "failed", Failure(_line(outcome.error), ours=True))
            return
        *pieces, last = outcome.pieces
        for piece in pieces:
            job.deliver(piece)
        if last.finish:
            self._end(outcome.request, keep=True)
            self._finish(job, last.finish, last)
        else:
            job.deliver(last)

    def _end(self, number: int, *, keep: bool) -> None:
        """Take a job out of those begun; what its sequence holds may serve prompts to come."""
        with self._changed:
            job = self._begun.pop(number)
        assert job.sequence is not None
        if keep:
            read = job.read
            job.sequence.truncate(len(read))  # a step may have read guesses beyond the end
            self._cache.keep(read, job.sequence)
        job.sequence = None

    def _finish(self, job: Job, reason: str, last: Delivery) -> None:
        with self._changed:
            self._counters.finished[reason] = self._counters.finished.get(reason, 0) + 1
        job.deliver(last)

    def _fail_running(self, failure: Failure) -> None:
        """Tell all but those in the queue that their answers end here."""
        self._session = self._new_session()
        with self._changed:
            gone = [*self._begun.values(), *self._followers]
            self._begun, self._followers = {}, []
        for job in gone:
            job.sequence = None
            self._finish(job, "failed", failure)


def _line(error: BaseException) -> str:
    """Return what is said of an error: one line."""
    if isinstance(error, BitsimError):
        return str(error)
    return shown(f"{type(error).__name__}: {error}", 200)
