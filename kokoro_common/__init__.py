"""Kokoro Say for Python programs: `import kokoro_common as kokoro`. docs/python.md is the manual.

A name is imported when it is first used: say.py and the servers, which import this package too, need none of them.
"""

__version__ = "0.1.0"  # a constant: importlib.metadata would cost the client a tenth of a second

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.api import (
        SoundStream,
        Speaking,
        SpeechOptions,
        VoiceInfo,
        list_voices,
        save,
        speak,
        start,
        status,
        stop,
        synthesize,
    )
    from kokoro_common.errors import (
        KokoroError,
        ModelUnavailable,
        NoAudioDevice,
        OutputError,
        ServersBusy,
        ServersUnreachable,
        UnknownVoice,
        UsageError,
        UtteranceCancelled,
    )
    from kokoro_common.sound.samples import Sound
    from kokoro_common.wire.reports import StatusReport
else:

    def __getattr__(name):
        from importlib import import_module

        if name in __all__:
            for module in ("errors", "api", "sound.samples", "wire.reports"):
                if hasattr(found := import_module(f"{__name__}.{module}"), name):
                    globals()[name] = getattr(found, name)
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "KokoroError",
    "ModelUnavailable",
    "NoAudioDevice",
    "OutputError",
    "ServersBusy",
    "ServersUnreachable",
    "Sound",
    "SoundStream",
    "Speaking",
    "SpeechOptions",
    "StatusReport",
    "UnknownVoice",
    "UsageError",
    "UtteranceCancelled",
    "VoiceInfo",
    "__version__",
    "list_voices",
    "save",
    "speak",
    "start",
    "status",
    "stop",
    "synthesize",
]
