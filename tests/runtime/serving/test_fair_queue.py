"""Users take turns, and each user's items come in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsim.runtime.serving.fair_queue import FairQueue

users = st.sampled_from("abc")


@given(st.lists(st.one_of(users, st.none()), max_size=40))
def test_against_lists(course: list[str | None]) -> None:
    """A user's name puts an item in, None takes one out."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    waiting: dict[str, list[tuple[str, int]]] = {}
    turns: list[str] = []
    for number, user in enumerate(course):
        if user is not None:
            queue.put(user, (user, number))
            waiting.setdefault(user, []).append((user, number))
            turns += [user] if user not in turns else []
        elif turns:
            first = turns.pop(0)
            assert queue.take() == waiting[first].pop(0)
            turns += [first] if waiting[first] else []
        else:
            with pytest.raises(IndexError):
                queue.take()
        assert len(queue) == sum(map(len, waiting.values()))


@given(st.lists(st.tuples(users, st.integers(0, 5)), max_size=20), st.integers(0, 5))
def test_items_can_be_taken_out_of_the_middle(items: list[tuple[str, int]], unwanted: int) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for user, number in items:
        queue.put(user, (user, number))
    gone = queue.remove(lambda item: item[1] == unwanted)
    assert sorted(gone) == sorted(item for item in items if item[1] == unwanted)
    left = [queue.take() for _ in range(len(queue))]
    assert sorted(left) == sorted(item for item in items if item[1] != unwanted)
    for user in "abc":
        assert [item for item in left if item[0] == user] == [
            item for item in items if item[0] == user and item[1] != unwanted
        ]
