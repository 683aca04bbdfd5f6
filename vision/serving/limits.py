"""What one visitor may take, so that others are served too: places, bytes, requests a minute; and the token."""

import asyncio
import contextlib
import hmac
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping

#: Uploads that arrive at a time, of all and of one address. They cost a connection each, not a place in the queue.
MAX_ARRIVING, MAX_ARRIVING_OF_ONE = 64, 32

#: A visitor who sends nothing for this long, in seconds, is given up.
STALL_SECONDS = 15.0

#: Time that a request may take to arrive, and the average rate that it needs after half a minute, in bytes a second.
UPLOAD_SECONDS, SLOWEST, GRACE_SECONDS = 900.0, 20_000, 30.0

#: Addresses whose requests are counted; beyond that those of the longest ago are forgotten.
MAX_ADDRESSES = 10_000


class Busy(Exception):
    """A visitor has to come again; the arguments are a status, a reason and the seconds to wait."""

    def __init__(self, status: int, reason: str, seconds: int):
        super().__init__(status, reason, seconds)
        self.status, self.reason, self.seconds = status, reason, seconds


class Visitors:
    """Counts what arrives from whom.

    Parameters
    ----------
    max_bytes : int
        Bytes of uploads that are held at a time.
    per_minute : int
        Requests of one address in a minute.

    Attributes
    ----------
    stopping : bool
        Whether the server is about to end.
    receiving : set of asyncio.Task
        Those that wait for the rest of an upload.
    """

    def __init__(self, max_bytes: int, per_minute: int):
        self.max_bytes, self.per_minute = max_bytes, per_minute
        self._arriving: Counter[str] = Counter()
        self._bytes = 0
        self.stopping = False
        self.receiving: set[asyncio.Task] = set()
        self._times: dict[str, deque[float]] = {}

    def stop(self) -> None:
        """End the uploads that are still arriving; may be called from a signal handler."""
        self.stopping = True
        for task in list(self.receiving):
            task.get_loop().call_soon_threadsafe(task.cancel)

    def count_request(self, address: str) -> None:
        """Count a request; raises `Busy` when the address has had its share of this minute."""
        now = time.monotonic()
        times = self._times.pop(address, deque())
        while times and now - times[0] >= 60:
            times.popleft()
        self._times[address] = times  # at the end: who came last is forgotten last
        if len(self._times) > MAX_ADDRESSES:
            del self._times[next(iter(self._times))]
        if len(times) >= self.per_minute:
            wait = 60 - (now - times[0])
            raise Busy(429, f"more than {self.per_minute} requests in a minute, the limit here", int(wait) + 1)
        times.append(now)

    @contextlib.contextmanager
    def arriving(self, address: str) -> Iterator[None]:
        """Give an upload a place while it arrives; raises `Busy` when there is none."""
        if self._arriving.total() >= MAX_ARRIVING or self._arriving[address] >= MAX_ARRIVING_OF_ONE:
            raise Busy(503, "too many uploads at a time; try again in a few seconds", 3)
        self._arriving[address] += 1
        try:
            yield
        finally:
            self._arriving[address] -= 1
            if not self._arriving[address]:
                del self._arriving[address]

    @contextlib.contextmanager
    def ended_by_stop(self) -> Iterator[None]:
        """Let `stop` cancel the task that is in this block."""
        task = asyncio.current_task()
        assert task is not None
        self.receiving.add(task)
        try:
            yield
        finally:
            self.receiving.remove(task)

    @contextlib.contextmanager
    def holding(self) -> Iterator["Upload"]:
        """Count the bytes of an upload for as long as it is held."""
        upload = Upload(self)
        try:
            yield upload
        finally:
            self._bytes -= upload.received


class Upload:
    """How much of an upload has arrived, and since when."""

    def __init__(self, visitors: Visitors):
        self._visitors, self._since, self.received = visitors, time.monotonic(), 0

    def add(self, n_bytes: int) -> None:
        """Count bytes that have arrived; raises `Busy` or TimeoutError when they are too many or come too slowly."""
        self.received += n_bytes
        self._visitors._bytes += n_bytes
        if self._visitors._bytes > self._visitors.max_bytes:
            raise Busy(503, "too many uploads at a time; try again in a few seconds", 3)
        took = time.monotonic() - self._since
        if took > GRACE_SECONDS and self.received < SLOWEST * took:
            raise TimeoutError


def has_token(headers: Mapping[str, str], token: str) -> bool:
    """Return whether a request has the token; how long that takes tells nothing of it."""
    authorization = headers.get("authorization", "")
    return hmac.compare_digest(authorization.encode("utf-8", "replace"), f"Bearer {token}".encode())
