"""Another version of the programs: VERSION and PROTOCOL from the environment, before anything takes them over.

As a program it is the stub model server, the recorder voice server (with a voice as its last argument), or, with
SAY=1 in the environment, say.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import kokoro_common
from kokoro_common.wire import messages as protocol

kokoro_common.__version__ = os.environ["VERSION"]
protocol.PROTOCOL = int(os.environ["PROTOCOL"])

from kokoro_common.daemon import model_server as model_server_start  # noqa: E402
from kokoro_common.voices.catalogue import VOICES  # noqa: E402

model_server_start.MODEL_PROGRAM = __file__

if __name__ == "__main__":
    if os.environ.pop("SAY", ""):
        import say

        say.command()
    if sys.argv[-1] in VOICES:
        import voice_server
        from tests.helpers.recorder_voice_server import RecordedVoiceServer

        model_server_start.MODEL_PROGRAM = __file__
        sys.exit(voice_server.main(server=RecordedVoiceServer))
    import model_server
    from tests.helpers.stub_model_server import StubModelServer

    StubModelServer.voice_program = __file__
    sys.exit(model_server.main(server=StubModelServer))
