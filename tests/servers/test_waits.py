"""Who waits for whom, over both servers: word of a pause reaches those that wait for the floor, in any voice server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kokoro_common.speaking.turn import PAUSED_SECONDS, SPEECH_IS_PAUSED
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import EndOfText, Failed, Message, Notice, Pause, Resume, Route, Speak, Stop, TextPart
from tests.helpers.small_world import VOICES, Client, SmallWorld


@pytest.fixture
def world() -> Iterator[SmallWorld]:
    world = SmallWorld()
    yield world
    assert world.unexpected.records == []
    world.close()


class Listener(Client):
    """Keeps what it is told."""

    def hear(self, message: Message, payload: bytes) -> None:
        super().hear(message, payload)
        self.told.append(message)

    @property
    def notices(self) -> list[str]:
        return [message.text for message in self.told if isinstance(message, Notice)]


def caller(world: SmallWorld, voice: str) -> Listener:
    client = Listener(world.voices[voice])
    client.told = []
    client.name = "caller"
    world.clients.append(client)
    return client


def say(world: SmallWorld, voice: str, **route: object) -> Listener:
    client = caller(world, voice)
    utterance = world.utterance_id()
    client.sinks[utterance] = str(route.get("sink", "speakers"))
    speech = Speech(voice=voice, lang="a", engine="espeak")
    client.send(Speak(utterance=utterance, speech=speech, route=Route(**route)))  # type: ignore[arg-type]
    client.send(TextPart(utterance=utterance, text="Hello there. "))
    client.send(EndOfText(utterance=utterance))
    return client


def control(world: SmallWorld, voice: str, verb: Message) -> None:
    caller(world, voice).send(verb)
    world.run()


def hold(world: SmallWorld, voice: str) -> Listener:
    """Speech that has the floor and is paused."""
    client = caller(world, voice)
    utterance = world.utterance_id()
    client.sinks[utterance] = "speakers"
    client.send(Speak(utterance=utterance, speech=Speech(voice=voice, lang="a", engine="espeak"), route=Route()))
    client.send(TextPart(utterance=utterance, text="Hello there. And so on, "))
    world.run()
    control(world, voice, Pause())
    return client


def pass_time(world: SmallWorld, seconds: float) -> None:
    for _ in range(round(2 * seconds)):
        world.tick(0.5)
        world.run()


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("pause_first", [True, False])
def test_a_call_that_waits_for_paused_speech_is_told_once(world: SmallWorld, voice: str, pause_first: bool) -> None:
    held = hold(world, VOICES[0])
    if not pause_first:
        control(world, VOICES[0], Resume())
    waiting = [say(world, voice), say(world, VOICES[1])]
    world.run()
    if not pause_first:
        control(world, VOICES[0], Pause())
    pass_time(world, PAUSED_SECONDS - 1)
    assert [each.notices for each in waiting] == [[], []]
    pass_time(world, 10)
    assert [each.notices for each in waiting] == [[SPEECH_IS_PAUSED]] * 2
    control(world, VOICES[0], Resume())
    world.disconnect(held)
    pass_time(world, 10)
    assert all(each.last[each.utterance] == 1 for each in waiting)


def test_when_the_paused_speech_is_stopped_nobody_is_told_afterwards(world: SmallWorld) -> None:
    hold(world, VOICES[0])
    control(world, VOICES[0], Stop())
    hold_again = say(world, VOICES[1])
    waiting = say(world, VOICES[0])
    pass_time(world, 10)
    assert hold_again.notices == waiting.notices == []


def test_the_next_model_server_hears_of_the_pause(world: SmallWorld) -> None:
    hold(world, VOICES[0])
    world.kill_model()
    world.run()
    waiting = say(world, VOICES[1])
    pass_time(world, 10)
    assert waiting.notices == [SPEECH_IS_PAUSED]


def test_the_next_model_server_takes_a_paused_call_that_waits_for_no_pause_of_speech(world: SmallWorld) -> None:
    spoken = caller(world, VOICES[0])
    spoken.sinks[utterance := world.utterance_id()] = "speakers"
    spoken.send(Speak(utterance=utterance, speech=Speech(voice=VOICES[0], lang="a", engine="espeak"), route=Route()))
    spoken.send(TextPart(utterance=utterance, text="Hello there. And so on, "))
    world.run()
    resting = say(world, VOICES[0])
    world.run()
    control(world, VOICES[0], Pause(utterance=resting.utterance))
    pass_time(world, 0.5)
    waiting = say(world, VOICES[1])
    world.run()
    world.kill_model()
    world.run()
    for word in range(6):  # else it would rest and give the floor back
        spoken.send(TextPart(utterance=utterance, text=f"And {word}. "))
        pass_time(world, 0.5)
    assert waiting.notices == []
    world.disconnect(spoken)
    pass_time(world, PAUSED_SECONDS + 1)
    assert waiting.notices == [SPEECH_IS_PAUSED]  # now it has the floor, and is silent


@pytest.mark.parametrize("explain", [False, True])
def test_audio_for_a_client_that_does_not_wait_is_refused(world: SmallWorld, explain: bool) -> None:
    """Nobody could give credit for it: it would never end."""
    client = say(world, VOICES[0], sink="client", wait=False, explain=explain)
    world.run()
    failed = [message for message in client.told if isinstance(message, Failed)]
    assert [message.code for message in failed] == [2]
    assert not len(world.voices[VOICES[0]].turns)
    assert world.model.ledger.in_flight == 0


@pytest.mark.parametrize("wait", [True, False])
def test_what_a_client_began_and_left_without_all_text_or_credit_is_cancelled(world: SmallWorld, wait: bool) -> None:
    client = say(world, VOICES[0], sink="client") if wait else hold(world, VOICES[0])
    world.run()
    world.disconnect(client)
    pass_time(world, 1)
    assert not len(world.voices[VOICES[0]].turns)
    assert world.lock is None
