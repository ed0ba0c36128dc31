"""A queue in which those who ask much do not hold up those who ask little."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Users take turns; what one user has put in comes out in its order."""

    def __init__(self) -> None:
        self._users: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(len(items) for items in self._users.values())

    def put(self, user: str, item: Item) -> None:
        """Add an item at the end of a user's."""
        self._users.setdefault(user, deque()).append(item)

    def take(self) -> Item:
        """Remove and return the first item of the user whose turn it is, who comes last then; IndexError for none."""
        if not self._users:
            raise IndexError("nobody waits")
        user, items = self._users.popitem(last=False)
        item = items.popleft()
        if items:
            self._users[user] = items
        return item

    def remove(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Remove and return some items."""
        gone = [item for items in self._users.values() for item in items if unwanted(item)]
        for user, items in list(self._users.items()):
            left = deque(item for item in items if not unwanted(item))
            if left:
                self._users[user] = left
            else:
                del self._users[user]
        return gone
