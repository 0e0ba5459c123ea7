"""spaCy and misaki.espeak without what they bring along but nobody uses, half of their cost.

spaCy's command line and plugins (transformers) are left out, and phonemizer, which is for espeak-ng's process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from kokoro_common.phonemes.espeak_process import EspeakProcess


def import_spacy() -> Any:
    """spaCy without its command line: 0.3 s for typer, jinja2, requests and more."""
    with standing_in(stand_in("spacy.cli.info", info=None)):
        import spacy
    return spacy


@contextlib.contextmanager
def without_plugins(spacy: Any) -> Iterator[None]:
    """Keeps other packages from adding parts of pipelines to spaCy, which would import them all: transformers, 1 s.

    A spaCy that finds its plugins in another way still does so; a test would show it.
    """
    factories = getattr(spacy.registry, "_entry_point_factories", SimpleNamespace(entry_points=True))
    before, factories.entry_points = factories.entry_points, False
    try:
        yield
    finally:
        factories.entry_points = before


def misaki_espeak(process: EspeakProcess) -> ModuleType:
    """A copy of misaki.espeak that takes our process for phonemizer.

    The real one would call the library in this process, where it crashes, and costs 0.4 s: it imports csvw.
    """
    spec = importlib.util.find_spec("misaki.espeak")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    phonemizer = stand_in("phonemizer", backend=SimpleNamespace(EspeakBackend=process.backend))
    nothing = SimpleNamespace(set_library=str, set_data_path=str)  # the process finds both for itself
    try:
        with standing_in(phonemizer, stand_in("phonemizer.backend.espeak.wrapper", EspeakWrapper=nothing)):
            spec.loader.exec_module(module)
    except ImportError:  # a later misaki that wants more of phonemizer
        spec.loader.exec_module(module)
    vars(module)["phonemizer"] = phonemizer
    return module


def stand_in(name: str, **content: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


@contextlib.contextmanager
def standing_in(*modules: ModuleType) -> Iterator[None]:
    """Puts these modules in place of the ones of their names, for the imports within the block."""
    before = {module.__name__: sys.modules.get(module.__name__) for module in modules}
    sys.modules.update({module.__name__: module for module in modules})
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
