"""The books: utterances accepted and ended, over all voice servers, whatever becomes of these. No I/O, one thread."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from kokoro_common.errors import ServersBusy
from kokoro_common.wire.messages import ProtocolError
from kokoro_common.wire.reports import LedgerReport

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping

Key = TypeVar("Key", bound="Hashable")

OUTCOMES = ("finished", "cancelled", "failed")
MAX_OPEN = 512  # utterances accepted and not ended, over all voice servers
RETRY_AFTER_SECONDS = 5.0  # for those beyond that
MAX_GONE = 64  # accounts of voice servers that were lost and may register again


class Account:
    """One voice server's part of the books."""

    def __init__(self, counts: Mapping[str, int] | None = None, open_utterances: Collection[str] = ()) -> None:
        self.counts = {name: (counts or {}).get(name, 0) for name in ("accepted", *OUTCOMES)}
        self.open = set(open_utterances)  # accepted, and not ended


class Ledger(Generic[Key]):
    """Accounts by key: what tells a voice server from another one, in a later connection too.

    Always: accepted = finished + cancelled + failed + in flight.
    """

    def __init__(self) -> None:
        self._accounts: dict[Key, Account] = {}
        self._closed = Account()  # of all voice servers that are gone
        self._gone: OrderedDict[Key, Account] = OrderedDict()  # the last of those: taken out again if one comes back

    def register(self, key: Key, counts: Mapping[str, int], open_utterances: Collection[str]) -> None:
        """A voice server tells its counts since its own start. It may have been here before."""
        for name, count in self._gone.pop(key, Account()).counts.items():
            self._closed.counts[name] -= count
        self._accounts[key] = Account(counts, open_utterances)

    def close(self, key: Key) -> None:
        """A voice server is gone: what it had open has failed, unless it registers again and says otherwise."""
        account = self._accounts.pop(key, None)
        if account is None:
            return
        account.counts["failed"] += len(account.open)
        account.open.clear()
        for name, count in account.counts.items():
            self._closed.counts[name] += count
        self._gone[key] = account
        if len(self._gone) > MAX_GONE:
            self._gone.popitem(last=False)

    def open(self, key: Key, utterance: str) -> bool:
        """Accepts an utterance; False: it is accepted already. Raises ServersBusy beyond MAX_OPEN."""
        account = self._accounts[key]
        if utterance in account.open:
            return False
        if self.in_flight >= MAX_OPEN:
            raise ServersBusy(RETRY_AFTER_SECONDS)
        account.open.add(utterance)
        account.counts["accepted"] += 1
        return True

    def end(self, key: Key, utterance: str, outcome: str) -> bool:
        """Whether it was open: what was not is no error. Raises ProtocolError for an outcome that there is none of."""
        if outcome not in OUTCOMES:
            raise ProtocolError(f"an utterance has {outcome}")
        account = self._accounts[key]
        if utterance not in account.open:
            return False
        account.open.remove(utterance)
        account.counts[outcome] += 1
        return True

    def is_open(self, key: Key, utterance: str) -> bool:
        return key in self._accounts and utterance in self._accounts[key].open

    def open_of(self, key: Key) -> int:
        """How many utterances a voice server has open."""
        return len(self._accounts[key].open) if key in self._accounts else 0

    @property
    def in_flight(self) -> int:
        return sum(len(account.open) for account in self._accounts.values())

    def report(self) -> LedgerReport:
        books = [self._closed, *self._accounts.values()]
        counts = {name: sum(account.counts[name] for account in books) for name in ("accepted", *OUTCOMES)}
        return LedgerReport(**counts, in_flight=self.in_flight)
