"""What an engine has done since it began."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Sums since the engine began; `waiting`, `running` and `kept_tokens` are as of now.

    Attributes:
        waiting: requests in the queue.
        running: requests whose prompt is read or whose answer is written.
        kept_tokens: tokens of finished sequences in memory for prompts to come.
        accepted_requests: taken into the queue.
        refused: turned away since the queue was full.
        finished: requests that ended, by reason: "stop", "length", "context", "cancelled", "failed".
        prompt_tokens: of requests begun, those found in memory counted too.
        cached_tokens: of those, found in memory.
        new_tokens: of answers.
        steps: passes over the weights.
        step_s: seconds in them.
        drafted: tokens guessed ahead of the model.
        accepted: of those, what the model then drew itself.
        queue_s: seconds that requests waited before their prompts were begun, summed over them.
        first_token_s: seconds from arrival to the first token, summed over `first_tokens` requests.
        first_tokens: requests that got a token.
        longest_step_s: the longest that all answers were held up between two steps.
    """

    waiting: int = 0
    running: int = 0
    kept_tokens: int = 0
    accepted_requests: int = 0
    refused: int = 0
    finished: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    new_tokens: int = 0
    steps: int = 0
    step_s: float = 0.0
    drafted: int = 0
    accepted: int = 0
    queue_s: float = 0.0
    first_token_s: float = 0.0
    first_tokens: int = 0
    longest_step_s: float = 0.0
