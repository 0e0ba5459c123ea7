"""Random walks over every message in every state: two clients and more, lost peers, failing devices, silent and endless
utterances, interrupts before, within and after text.

The invariants: exactly one last message; whoever took the floor gives it back; nothing waits for ever on something that
can no longer come; the ledger adds up; no sample beyond credit; bounded audio; no exception that nobody meant.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kokoro_common.speaking.in_flight import AUDIO_BYTES
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import (
    Cancel,
    Credit,
    EndOfText,
    FloorGranted,
    Hello,
    Message,
    Pause,
    Ping,
    Resume,
    Route,
    Skip,
    Speak,
    StatusRequest,
    Stop,
    TextPart,
)
from tests.helpers.small_world import VOICES, Client, SmallWorld

CHUNK_BYTES = 512 << 10  # more than any text chunk of TEXTS becomes: an utterance may always have one under way
TEXTS = {
    "a sentence": "Hello there. ",
    "clauses": "One, two, ",
    "a word": "three",
    "signs": "*** ",
    "a blank": " ",
    "an end of paragraph": "\n\n",
    "a pause": "[pause:1s] ",
    "two long pauses": "[pause:60s] [pause:60s] ",
    "a heading": "# Heading\n",
    "SSML": "<speak>Hello. ",
    "a fault in SSML": "</spek>",
    "a book": "Hello there. " * 400,
    "a book with a fault": "<speak>" + "Hello there. " * 400 + "</spek>",
}
TEXT = st.sampled_from(sorted(TEXTS))  # by name, so that a walk can be read
VOICE = st.sampled_from(VOICES)
STEPS = int(os.environ.get("WALK_STEPS", "40"))
WALKS = int(os.environ.get("WALKS", "60"))


def has_clients(walk: Walk) -> bool:
    return bool(walk.world.clients)


class Walk(RuleBasedStateMachine):
    steps = 0  # of all walks of this process

    @initialize()
    def begin(self) -> None:
        self.world = SmallWorld()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self._everybody_is_served()
            self._nothing_is_left()
        finally:
            self.world.close()

    # --- clients -----------------------------------------------------------------------------------------------------

    @rule(
        voice=VOICE,
        sink=st.sampled_from(["speakers", "client"]),
        floor=st.sampled_from(["queue", "queue", "interrupt", "overlap"]),
        wait=st.booleans(),
        follow=st.booleans(),
        words=st.booleans(),
        first_chunk=st.sampled_from([0, 0, 1, 9, 1_000]),
        engine=st.sampled_from(["auto", "espeak"]),
        text=st.none() | TEXT,
        ended=st.booleans(),
    )
    def speak(self, voice: str, text: str | None, ended: bool, engine: str, **route: object) -> None:
        client = self.world.connect(voice)
        utterance = self.world.utterance_id()
        client.sinks[utterance] = str(route.get("sink", "speakers"))
        client.unended.add(utterance)
        speech = Speech(voice=voice, lang="a", engine=engine)
        client.send(Speak(utterance=utterance, speech=speech, route=Route(**route)))  # type: ignore[arg-type]
        if text is not None:
            client.send(TextPart(utterance=utterance, text=TEXTS[text]))
        if ended:
            client.unended.discard(utterance)
            client.send(EndOfText(utterance=utterance))

    def _client(self, data: st.DataObject) -> Client:
        return data.draw(st.sampled_from(self.world.clients))

    @rule(voice=VOICE, text=TEXT, ended=st.booleans())
    def say(self, voice: str, text: str, ended: bool) -> None:
        self.speak(voice, text, ended, "espeak")

    @rule(voice=VOICE, text=TEXT, ended=st.booleans(), wait=st.booleans())
    def write(self, voice: str, text: str, ended: bool, **route: object) -> None:
        self.speak(voice, text, ended, "espeak", sink="client", **route)

    @rule(voice=VOICE, text=st.sampled_from(["a book", "a book with a fault"]), ended=st.booleans())
    def go_on_with_a_book(self, voice: str, text: str, ended: bool) -> None:
        self.speak(voice, text, ended, "espeak", sink="client", words=True, first_chunk=1_000)

    @precondition(has_clients)
    @rule(data=st.data(), text=TEXT)
    def send_text(self, data: st.DataObject, text: str) -> None:
        client = self._client(data)
        utterance = client.utterance
        if utterance in client.unended:
            client.send(TextPart(utterance=utterance, text=TEXTS[text]))

    @precondition(has_clients)
    @rule(data=st.data())
    def end_text(self, data: st.DataObject) -> None:
        client = self._client(data)
        utterance = client.utterance
        if utterance in client.unended:
            client.unended.discard(utterance)
            client.send(EndOfText(utterance=utterance))

    @precondition(has_clients)
    @rule(data=st.data(), size=st.sampled_from([1, 4_000, 1 << 20]))
    def give_credit(self, data: st.DataObject, size: int) -> None:
        client = self._client(data)
        utterance = client.utterance
        client.credit[utterance] += size
        client.send(Credit(utterance=utterance, bytes=size))

    @precondition(has_clients)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        client = self._client(data)
        client.send(Cancel(utterance=client.utterance))

    @precondition(has_clients)
    @rule(data=st.data(), verb=st.sampled_from([Pause, Pause, Resume]))
    def suspend(self, data: st.DataObject, verb: type[Pause] | type[Resume]) -> None:
        """Its own utterance, wherever it stands in the line, or one that has ended."""
        client = self._client(data)
        client.send(verb(utterance=client.utterance))

    @precondition(has_clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.world.disconnect(self._client(data))

    @rule(voice=VOICE, verb=st.sampled_from([Stop(), Pause(), Resume(), StatusRequest(), Ping()]))
    def control(self, voice: str, verb: Message) -> None:
        client = self.world.connect(voice)
        client.send(verb)
        self.world.deliver_from_client(client)
        self.world.disconnect(client)

    @precondition(has_clients)
    @rule(data=st.data())
    def skip(self, data: st.DataObject) -> None:
        client = self._client(data)
        client.send(Skip(utterances=tuple(client.sinks)))

    @precondition(has_clients)
    @rule(data=st.data(), message=st.sampled_from([FloorGranted(utterance="u"),
          Hello(role="client", protocol=1, version="", nonce=""), Credit(utterance="u", bytes=-1)]))  # fmt: skip
    def nonsense(self, data: st.DataObject, message: Message) -> None:
        self._client(data).send(message)

    # --- the rest of the world ---------------------------------------------------------------------------------------

    @precondition(has_clients)
    @rule(data=st.data(), count=st.integers(1, 5))
    def server_reads_client(self, data: st.DataObject, count: int) -> None:
        client = self._client(data)
        for _ in range(count):
            self.world.deliver_from_client(client)

    @precondition(has_clients)
    @rule(data=st.data(), count=st.integers(1, 9))
    def client_reads(self, data: st.DataObject, count: int) -> None:
        client = self._client(data)
        for _ in range(count):
            self.world.deliver_to_client(client)

    @rule(voice=VOICE, count=st.integers(1, 9))
    def model_server_reads(self, voice: str, count: int) -> None:
        for _ in range(count):
            self.world.deliver_to_model(voice)

    @rule(voice=VOICE, count=st.integers(1, 9))
    def voice_server_reads(self, voice: str, count: int) -> None:
        for _ in range(count):
            self.world.deliver_to_voice(voice)

    @rule(voice=VOICE, count=st.integers(1, 4))
    def voice_server_hears_its_threads(self, voice: str, count: int) -> None:
        for _ in range(count):
            self.world.deliver_event(voice)

    @rule(count=st.integers(1, 4))
    def engine_works(self, count: int) -> None:
        for _ in range(count):
            self.world.model.synthesis.step()

    @rule(voice=VOICE, fails=st.sampled_from([False, False, False, True]))
    def device_plays(self, voice: str, fails: bool) -> None:
        for speakers in self.world.voices[voice].devices:
            speakers.step(fails=fails)

    @rule(seconds=st.sampled_from([0.01, 0.5, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def all_goes_on(self) -> None:
        self.world.run()

    @rule(voice=VOICE)
    def link_breaks(self, voice: str) -> None:
        self.world.cut_link(voice)

    @precondition(lambda self: len(self.world.links) < len(VOICES))
    @rule()
    def links_are_made_again(self) -> None:
        for name in VOICES:
            if name not in self.world.links:
                self.world.relink(name)

    @rule()
    def model_server_dies(self) -> None:
        self.world.kill_model()

    @rule(voice=VOICE)
    def voice_server_dies(self, voice: str) -> None:
        self.world.kill_voice(voice)

    @rule()
    def somebody_asks_to_unload(self) -> None:
        self.world.ask_to_unload()

    @precondition(lambda self: self.world.unloading)
    @rule()
    def nobody_asks_to_unload_any_more(self) -> None:
        self.world.no_longer_unload()

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "world"):
            return
        Walk.steps += 1
        assert not self.world.unexpected.records, "an exception that nobody meant"
        books = self.world.model.ledger.report()
        assert books.accepted == books.finished + books.cancelled + books.failed + books.in_flight
        for server in self.world.voices.values():
            most = AUDIO_BYTES + CHUNK_BYTES * len(server.turns)
            assert server.held_bytes <= most, f"{server.held_bytes >> 10} KiB of audio that nobody takes"

    def _everybody_is_served(self) -> None:
        """Who has sent all text, and takes what comes, is through in time, whatever others do."""
        world = self.world
        world.settle(1.0)  # what was sent has come: else a Pause that is under way would outlast the Resume
        for name in VOICES:
            client = world.connect(name)
            client.send(Resume())
        world.settle(60.0)
        for client in world.clients:
            waiting = [each for each in client.sinks if each not in client.unended and not client.last[each]]
            assert not waiting, f"{len(waiting)} wait for ever"
        self.holds()

    def _nothing_is_left(self) -> None:
        """Once all clients have left, too."""
        world = self.world
        for client in list(world.clients):
            world.disconnect(client)
        world.settle(30.0)
        assert not world.model.line, "the floor is still asked for"
        assert world.lock is None, "floor.lock is held"
        for server in world.voices.values():
            assert not len(server.turns), "an utterance has not ended"
            assert all(speakers.idle for speakers in server.devices), "the speakers wait"
            assert server.turns.counts["accepted"] == sum(server.turns.ended.values())
        assert world.model.ledger.in_flight == 0
        assert not world.unloading, "a client that asked to unload has no answer"
        assert world.unloaded, "an idle model server never unloads"
        assert not world.model.synthesis.waiting
        self.holds()


Walk.TestCase.settings = settings(
    max_examples=WALKS,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
TestWalk = Walk.TestCase
