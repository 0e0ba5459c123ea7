"""A book's cover is in the files that are made of it, and a broken or huge one keeps no book from being read."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import mutagen
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kokoro_common.documents.cover import MAX_BYTES, MAX_SIDE, NoCover, picture
from kokoro_common.documents.document import Picture
from kokoro_common.recording.encoders import AudioWriter
from kokoro_common.recording.formats import WITH_COVER, Label, Mark
from kokoro_common.sound.samples import SAMPLE_RATE
from tests.documents.test_epub import PAGES, book, package
from tests.helpers.players import probe
from tests.helpers.shelf import loaded
from tests.recording.test_encoders import read_pcm16
from tests.recording.test_rendering import BOOK, plan, rendered

if TYPE_CHECKING:
    from pathlib import Path


def image(kind: str, width: int = 90, height: int = 120) -> bytes:
    noise = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def cover(kind: str) -> Picture:
    return Picture(data=image(kind), mime=f"image/{kind.lower()}", width=90, height=120)


def attached(path: Path) -> bytes:
    """The picture as another library finds it."""
    file = mutagen.File(path)
    if path.suffix == ".flac":
        return bytes(file.pictures[0].data)
    if path.suffix == ".mp3":
        return bytes(file.tags.getall("APIC")[0].data)
    return bytes(file.tags["covr"][0])


LABEL = Label(
    tags=(("title", "A Book"), ("artist", "A. Uthor")),
    chapters=(Mark(title="One", first=0, last=30_000), Mark(title="Two", first=30_000, last=72_123)),
)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("extension", WITH_COVER)
def test_players_see_the_cover_and_hear_the_same(extension: str, kind: str, tmp_path: Path) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 3 * SAMPLE_RATE).astype(np.float32)
    paths = {name: tmp_path / f"{name}.{extension}" for name in ("bare", "one", "two")}
    for name, path in paths.items():
        label = LABEL if name == "bare" else LABEL.replace(cover=cover(kind))
        with AudioWriter(str(path), None, label) as writer:
            writer.write(samples)
    assert paths["one"].read_bytes() == paths["two"].read_bytes()
    assert attached(paths["one"]) == image(kind)
    seen = probe(paths["one"])
    (shown,) = (each for each in seen["streams"] if each["codec_type"] == "video")
    assert (shown["width"], shown["height"], shown["disposition"]["attached_pic"]) == (90, 120, 1)
    assert [each["tags"]["title"] for each in seen["chapters"]] == ["One", "Two"]
    assert str(mutagen.File(paths["one"]).info.length) == str(mutagen.File(paths["bare"]).info.length)
    assert np.array_equal(read_pcm16(paths["one"]), read_pcm16(paths["bare"]))


@pytest.mark.parametrize("split", [False, True])
def test_every_file_of_a_book_has_its_cover(split: bool, tmp_path: Path) -> None:
    document = BOOK.replace(cover=picture(image("PNG")))
    for extension in ("m4b", "mp3", "ogg"):
        rendered(plan(tmp_path, f"book.{extension}", split=split), document)
        for path in tmp_path.glob(f"book*.{extension}"):
            if extension != "ogg":
                assert attached(path) == image("PNG")


@pytest.mark.parametrize("how", ["EPUB 3", "EPUB 2", "its name"])
def test_the_cover_of_an_epub_is_found(how: str, tmp_path: Path) -> None:
    properties = "properties='cover-image'" if how == "EPUB 3" else ""
    name = "cover.jpg" if how == "its name" else "p.jpg"
    item = f"<item id='pic' href='{name}' media-type='image/jpeg' {properties}/>"
    meta = "<meta name='cover' content='pic'/>" if how == "EPUB 2" else ""
    opf = package(PAGES).replace("<manifest>", f"<manifest>{item}").replace("</metadata>", f"{meta}</metadata>")
    document = loaded(tmp_path / "a.epub", book({**PAGES, name: image("JPEG")}, opf))
    assert document.cover == picture(image("JPEG"))
    assert document.notes == ()


@pytest.mark.parametrize("data", [b"", b"GIF89a", image("PNG")[:500], image("JPEG")[:500], bytes(MAX_BYTES + 1)])
def test_a_cover_that_is_none_is_a_note_at_most(data: bytes, tmp_path: Path) -> None:
    item = "<item id='c' href='cover.jpg' media-type='image/jpeg' properties='cover-image'/>"
    opf = package(PAGES).replace("<manifest>", f"<manifest>{item}")
    document = loaded(tmp_path / "a.epub", book({**PAGES, "cover.jpg": data}, opf))
    assert "Text of First." in document.text
    assert document.cover is None
    assert [line.count("\n") for line in document.notes] == [0]
    missing = loaded(tmp_path / "b.epub", book(dict(PAGES), opf))
    assert (missing.cover, missing.notes) == (None, ())


def test_a_cover_that_is_too_large_is_said_to_be(tmp_path: Path) -> None:
    item = "<item id='c' href='cover.jpg' media-type='image/jpeg' properties='cover-image'/>"
    opf = package(PAGES).replace("<manifest>", f"<manifest>{item}")
    for size in (MAX_BYTES + 1, 2 * MAX_BYTES):
        (line,) = loaded(tmp_path / "a.epub", book({**PAGES, "cover.jpg": bytes(size)}, opf)).notes
        assert line.endswith("is left out: it has more than 10 MiB")


def test_a_picture_of_a_size_that_players_choke_on_is_refused() -> None:
    png = bytearray(image("PNG"))
    for width, height in ((0, 9), (MAX_SIDE + 1, 9), (9, MAX_SIDE + 1)):
        struct.pack_into(">II", png, 16, width, height)
        with pytest.raises(NoCover):
            picture(bytes(png))
    jpeg = image("JPEG")
    place = jpeg.index(b"\xff\xc0")
    with pytest.raises(NoCover, match="65000 x 120"):
        picture(jpeg[: place + 7] + struct.pack(">H", 65_000) + jpeg[place + 9 :])


@given(st.binary(max_size=300), st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", image("JPEG")[:200]]))
def test_no_bytes_are_more_than_refused(data: bytes, begin: bytes) -> None:
    try:
        found = picture(begin + data)
    except NoCover as error:
        assert "\n" not in str(error)
    else:
        assert 0 < found.width <= MAX_SIDE
