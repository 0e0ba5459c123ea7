"""Where -o puts the speech: the files that are wanted, checked before any work, as one Recording or Rendering."""

from __future__ import annotations

import os

from kokoro_common.command.arguments import flag, whole_number
from kokoro_common.errors import SAY, UsageError, shell_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from kokoro_common.documents.document import Document
    from kokoro_common.recording.recording import SpeechOutput
    from kokoro_common.text.speech import Speech

CAPTIONS = ("srt", "vtt", "lrc", "words")  # kinds of captions, each the name of its flag
ABOUT_FILES = (*CAPTIONS, "split", "title", "author", "lufs", "sample_rate", "bit_depth")  # flags that need -o

flag("-o", "--output", metavar="FILE", help="write wav flac ogg opus mp3 m4a m4b raw; - is stdout",
     group="files", common=True, values="audio")  # fmt: skip
flag("--srt", metavar="FILE", help="captions of what -o writes, as SubRip", group="files", common=True, values=".srt")
flag("--vtt", metavar="FILE", help="captions as WebVTT", group="files", values=".vtt")
flag("--lrc", metavar="FILE", help="captions as lyrics", group="files", values=".lrc")
flag("--words", metavar="FILE", help="each word and its time, as JSON", group="files", values=".json")
flag("--split", help="a file for each chapter: book-01.mp3 and so on", group="files", common=True)
flag("--title", metavar="X", help="title in its tags; the default is the document's", group="files")
flag("--author", metavar="X", help="author in its tags; the default is the document's", group="files")
flag("--lufs", metavar="N", help="loudness of the file; -16 is usual", group="files", common=True)
flag("--sample-rate", metavar="HZ", help="of the file, usually 24000", group="files")
flag("--bit-depth", metavar="N", help="of the file: 16 (usual), 24 or 32", group="files")


def check_output(options: Namespace) -> None:
    """Raises UsageError for flags about files without -o, and for two outputs that are one file."""
    from kokoro_common.recording.outfile import identity, is_special

    if options.output is None:
        for name in ABOUT_FILES:
            if getattr(options, name):
                shown = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"{shown} is about a file", f"write it with -o; -o /dev/null {shown} ... writes no audio"
                )
        return
    captions = [path for name in CAPTIONS if (path := getattr(options, name))]
    files = [identity(path) for path in (options.output, *captions) if identity(path) != os.devnull]
    documents = [path for path in options.file or () if path != "-"]
    files += dict.fromkeys(map(identity, documents))  # one may be read twice
    if twice := next((path for path in files if files.count(path) > 1), None):
        name = "the standard output" if twice == "-" else twice
        raise UsageError(f"{name} cannot be two things at once", "give each output a name of its own")
    nameless = [path for path in captions if is_special(path) and path != os.devnull]
    if options.split and (not documents or nameless or is_special(options.output)):
        remedy = f"{SAY} -f BOOK.epub --split -o BOOK.mp3 --srt BOOK.srt"
        raise UsageError("--split writes files for each chapter of a document", remedy)


def output_for(options: Namespace, speech: Speech, document: Document | None) -> SpeechOutput | None:
    """What writes the audio; None when it goes to the speakers. Opens files.

    Raises UsageError for what the format cannot be, OutputError for what cannot be written.
    """
    if options.output is None:
        return None
    from kokoro_common.documents.document import Chapter, Document
    from kokoro_common.recording.formats import form_for
    from kokoro_common.recording.outfile import is_special
    from kokoro_common.recording.recording import Plan, Recording
    from kokoro_common.recording.rendering import Rendering

    rate, bits = whole_number("sample rate", options.sample_rate), whole_number("bit depth", options.bit_depth)
    plan = Plan(
        output=options.output,
        form=form_for(options.output, rate, bits),
        captions=tuple((kind, getattr(options, kind)) for kind in CAPTIONS if getattr(options, kind)),
        split=options.split,
        loudness=_loudness(options),
        title=options.title or "",
        artist=options.author or "",
        resumable=document is not None and not is_special(options.output),
    )
    if not plan.resumable and plan.loudness is None:
        return Recording(plan, document)
    if document is None:
        document = Document(text="", chapters=(Chapter(title="", start=0, end=0),))
    rendering = Rendering(plan, document, speech)
    if rendering.engine and speech.engine not in ("auto", rendering.engine):
        rendering.abandon()
        remedy = f"leave out --engine, or begin anew: rm -r {shell_word(rendering.folder)}"
        raise UsageError(f"{options.output} was begun by {rendering.engine}", remedy)
    return rendering


def _loudness(options: Namespace) -> float | None:
    """In LUFS: that of --lufs, or the one that the user prefers for files; None: as it is.

    A pipe gets the preferred one not: it would have to wait for the last word.
    """
    from kokoro_common.recording.outfile import is_special
    from kokoro_common.settings import CALL_DEFAULTS
    from kokoro_common.text.defaults import call_defaults

    if options.lufs is None and is_special(options.output):
        return None
    return call_defaults({"lufs": options.lufs}, {}, chosen=[name for name in CALL_DEFAULTS if name != "lufs"]).lufs
