"""The English spaCy model: a wheel from the cache or the hub, verified and unpacked. Never pip."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import time
import zipfile

from kokoro_common.errors import ModelUnavailable
from kokoro_common.files import private_opener
from kokoro_common.hub.download import PARTIAL, FetchMeter, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.hub.download import Hub, Progress
    from kokoro_common.hub.manifest import SpacyWheel

log = logging.getLogger("kokoro.hub")

MAX_WHEEL_BYTES = 64 << 20  # of a wheel whose size the manifest does not tell; en_core_web_sm has 12 MB
UNPACKED = 3  # times its size that a wheel takes, with what is unpacked from it
REMEMBER_SECONDS = 24 * 3600.0  # during which a failure to get the wheel is not tried again


def spacy_path(hub: Hub, progress: Progress) -> str | None:
    """The directory that `spacy.load` takes; None if the model cannot be had, with the reason in the log. Blocks.

    A failure is remembered for a day: until then a start asks the network nothing. A wheel that the user puts into the
    spacy directory of the cache is used without the network.
    """
    wheel = hub.manifest.spacy
    if wheel is None:
        return None
    unpacked = os.path.join(hub.spacy_directory, wheel.sha256)
    try:
        if not os.path.isdir(unpacked):
            _install(hub, wheel, unpacked, progress)
    except ModelUnavailable as error:
        log.warning("no spaCy model: %s", error)
        return None
    return _pipeline_in(unpacked)


def _install(hub: Hub, wheel: SpacyWheel, unpacked: str, progress: Progress) -> None:
    name = wheel.url.rpartition("/")[2]
    path = os.path.join(hub.spacy_directory, name)
    most = wheel.size or MAX_WHEEL_BYTES
    source = Source(url=wheel.url, path=path, sha256=wheel.sha256, token=False, most=most)
    failure = unpacked + ".failed"
    present = hub.digest(source.path) == wheel.sha256
    if not present and hub.offline:
        raise source.unavailable("KOKORO_OFFLINE is set")
    if not present and _is_recent(failure):
        raise source.unavailable("it could not be had in the last 24 hours")
    with hub.exclusive(hub.spacy_directory):
        if os.path.isdir(unpacked):
            return  # another process was faster
        if not present:
            try:
                size = hub.require(source)
                hub.require_space(UNPACKED * size)
                meter = FetchMeter(progress)
                meter.begin(name)
                hub.download(source, size, meter)
            except ModelUnavailable:
                if not hub.aborted.is_set():
                    with open(failure, "wb", opener=private_opener):
                        pass
                raise
        _unpack(source, unpacked)
        os.remove(source.path)


def _unpack(source: Source, directory: str) -> None:
    """Unpacks a verified wheel in one step. Raises ModelUnavailable if it holds no spaCy pipeline."""
    work = directory + PARTIAL
    shutil.rmtree(work, ignore_errors=True)  # of a killed process
    try:
        with zipfile.ZipFile(source.path) as wheel:
            for name in wheel.namelist():
                if os.path.isabs(name) or ".." in name.split("/"):
                    raise source.unavailable(f"it holds {name!r}, a path out of its directory")
            os.mkdir(work, 0o700)
            wheel.extractall(work)
        if _pipeline_in(work) is None:
            raise source.unavailable("it holds no spaCy pipeline")
        os.rename(work, directory)
    except zipfile.BadZipFile as error:
        raise source.unavailable(f"it is not a wheel: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _pipeline_in(directory: str) -> str | None:
    """The directory of the pipeline's config.cfg, in a wheel PACKAGE/PACKAGE-VERSION/; None if there is none."""
    found = glob.glob(os.path.join(glob.escape(directory), "*", "*", "config.cfg"))
    return os.path.dirname(found[0]) if found else None


def _is_recent(path: str) -> bool:
    try:
        return 0 <= time.time() - os.stat(path).st_mtime < REMEMBER_SECONDS
    except OSError:  # not there, or a cache that cannot be read, which is reported where it is written
        return False
