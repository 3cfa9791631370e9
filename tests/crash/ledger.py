"""ledger.py: what was sent and what was answered, and which states a server may show after it was killed.

A state is None (absent) or (attributes, [SHA-256 of each photo]). Two kinds of item:
  Own      written by one client at a time: after the end it is as after the last answered write, or as after one of those
           sent behind it, in their order
  Shared   written by several at once, by whole puts and deletes only: it is as some write left it that no write which began
           after its answer has covered
A write that was refused is not noted; one whose answer never came may be there or not, but never in part."""

import threading
import time


class Own:
    def __init__(self, state=None):
        self.base, self.open = state, []

    def now(self):
        """The state that the next write meets, if all before it arrive."""
        return self.open[-1] if self.open else self.base

    def sent(self, state):
        self.open.append(state)

    def answered(self, refused=False):
        """The oldest of what is open."""
        state = self.open.pop(0)
        if not refused:
            self.base = state

    def may_be(self):
        return [self.base] + self.open

    def settle(self, state):
        """What was found; True when an open write is there."""
        late = bool(self.open) and state != self.base
        self.base, self.open = state, []
        return late


class Shared:
    def __init__(self, state=None):
        self.lock = threading.Lock()
        self.writes = [[0.0, 0.0, state]]  # began, answered (None = not), state

    def sent(self, state):
        write = [time.monotonic(), None, state]
        with self.lock:
            self.writes.append(write)
        return write

    def answered(self, write, refused=False):
        with self.lock:
            if refused:
                self.writes.remove(write)
            else:
                write[1] = time.monotonic()

    def covered(self, began, state=None):
        """Something else, answered just now, left the item in this state."""
        with self.lock:
            self.writes.append([began, time.monotonic(), state])

    def may_be(self):
        with self.lock:
            last = max(began for began, answered, _ in self.writes if answered is not None)
            return [state for began, answered, state in self.writes if answered is None or answered >= last]

    @property
    def open(self):
        return [w for w in self.writes if w[1] is None]

    def settle(self, state):
        late = any(w[1] is None and w[2] == state for w in self.writes)
        self.writes = [[0.0, 0.0, state]]
        return late


class Catalogue:
    """Made and deleted by one client; its items may be written by others meanwhile."""

    def __init__(self, exists=False):
        self.exists = Own(exists)
        self.items = {}

    def gone(self, began):
        """Its deletion was answered."""
        for item in list(self.items.values()):  # others may add to it
            if isinstance(item, Shared):
                item.covered(began)
            else:
                item.settle(None)


class Ledger:
    def __init__(self):
        self.catalogues = {}

    def own(self, catalogue, item):
        return self.catalogues[catalogue].items.setdefault(item, Own())

    def shared(self, catalogue, item):
        return self.catalogues[catalogue].items.setdefault(item, Shared())
