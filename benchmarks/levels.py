"""How loud each voice is, by the length of what it speaks: makes kokoro_common/voices/levels.tsv again.

    BENCHMARK_MODEL=real python -m benchmarks.levels [--voices NAME ...] > levels.tsv       from the repository root

Needs the real model (benchmarks/real_model.py): about 20 minutes on two cores. The style of a voice depends on the
number of phonemes, and its loudness with it, so each voice speaks texts of several lengths in its own language;
Japanese and Mandarin ones speak the English texts, as their front ends are extras. LUFS by ITU-R BS.1770-4, true peak
at four times the rate; espeak-ng is measured in the same way.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import soxr

from benchmarks.measure import model_settings
from kokoro_common.engine.engine import KokoroEngine, Phrase
from kokoro_common.engine.espeak import EspeakEngine
from kokoro_common.hub.cache import Cache
from kokoro_common.hub.manifest import load_manifest
from kokoro_common.phonemes.g2p import G2P
from kokoro_common.sound.edges import trimmed
from kokoro_common.sound.loudness import Meter
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.voices.catalogue import VOICES
from kokoro_common.voices.levels import LENGTHS, espeak_voice
from kokoro_common.voices.pack import read_voice_pack, style_row

if TYPE_CHECKING:
    from kokoro_common.sound.samples import Samples

SENTENCES = {  # short, middle, long, longer, middle
    "a": (
        "The kettle is on the stove.",
        "She asked whether the train had left, and he shook his head.",
        "The river bends twice before it reaches the mill, and nobody in the village remembers who built it.",
        "Please read this page slowly, because the numbers on it are older than the house in which we found them.",
        "In spring the whole valley smells of rain and of bread.",
    ),
    "e": (
        "La tetera está en el fuego.",
        "Ella preguntó si el tren había salido, y él negó con la cabeza.",
        "El río da dos vueltas antes de llegar al molino, y nadie en el pueblo recuerda quién lo construyó.",
        "Lea esta página despacio, porque los números son más viejos que la casa en que los encontramos.",
        "En primavera todo el valle huele a lluvia y a pan.",
    ),
    "f": (
        "La bouilloire est sur le feu.",
        "Elle demanda si le train était parti, et il secoua la tête.",
        "La rivière tourne deux fois avant le moulin, et personne au village ne se souvient de qui l'a construit.",
        "Lisez cette page lentement, car les chiffres sont plus vieux que la maison où nous les avons trouvés.",
        "Au printemps toute la vallée sent la pluie et le pain.",
    ),
    "h": (
        "केतली चूल्हे पर रखी है।",
        "उसने पूछा कि क्या गाड़ी जा चुकी है, और उसने सिर हिला दिया।",
        "नदी पुरानी चक्की तक पहुँचने से पहले दो बार मुड़ती है, और गाँव में किसी को याद नहीं कि उसे किसने बनाया।",
        "कृपया यह पन्ना धीरे पढ़ें, क्योंकि इसके अंक उस घर से भी पुराने हैं जिसमें हमने उन्हें पाया था।",
        "वसंत में पूरी घाटी बारिश और रोटी की खुशबू से भर जाती है।",
    ),
    "i": (
        "Il bollitore è sul fuoco.",
        "Lei chiese se il treno fosse partito, e lui scosse la testa.",
        "Il fiume curva due volte prima del mulino, e nessuno nel villaggio ricorda chi lo costruì.",
        "Leggi questa pagina lentamente, perché i numeri sono più vecchi della casa in cui li abbiamo trovati.",
        "In primavera tutta la valle profuma di pioggia e di pane.",
    ),
    "p": (
        "A chaleira está no fogo.",
        "Ela perguntou se o trem tinha partido, e ele balançou a cabeça.",
        "O rio faz duas curvas antes de chegar ao moinho, e ninguém na vila se lembra de quem o construiu.",
        "Leia esta página devagar, porque os números são mais velhos que a casa em que os encontramos.",
        "Na primavera todo o vale cheira a chuva e a pão.",
    ),
}
TOGETHER = ((0,), (4,), (1,), (2,), (1, 2), (1, 2, 3))  # sentences of one forward

Measured = list[tuple[int, float, float]]  # phonemes, LUFS, dBTP of each text


def texts(lang: str) -> list[str]:
    sentences = SENTENCES.get({"b": "a"}.get(lang, lang), SENTENCES["a"])
    return [" ".join(sentences[each] for each in together) for together in TOGETHER]


def level(samples: Samples) -> tuple[float, float]:
    meter = Meter(SAMPLE_RATE)
    meter.feed(trimmed(samples).samples)
    peak = np.abs(soxr.resample(samples, SAMPLE_RATE, 4 * SAMPLE_RATE, quality="VHQ")).max()
    return meter.integrated(), 20 * math.log10(peak)


def row(name: str, measured: Measured) -> str:
    """LUFS at each of LENGTHS, from what is nearest to it on both sides; and the median of the peaks."""
    points = sorted((phonemes, lufs) for phonemes, lufs, _ in measured)
    lufs = np.interp(LENGTHS, [each[0] for each in points], [each[1] for each in points])
    peak = statistics.median(peak for _, _, peak in measured)
    return "\t".join([name, *(f"{each:.1f}" for each in lufs), f"{peak:.1f}"])


def rows(names: Sequence[str], spoken: Callable[[str, str], tuple[int, Samples]]) -> None:
    for name in names:
        lang = name[0] if name in VOICES else name[-2]
        measured = [(phonemes, *level(samples)) for phonemes, samples in (spoken(name, each) for each in texts(lang))]
        print(row(name, measured), flush=True)
        spread = [lufs for _, lufs, _ in measured]
        print(f"{name}: {min(spread):.1f} to {max(spread):.1f}, {statistics.median(spread):.1f}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description="How loud each voice is, by the length of what it speaks.")
    parser.add_argument("--voices", nargs="*", help="of the catalogue, or espeak_af ...; all of them without it")
    options = parser.parse_args()
    settings = model_settings()
    manifest = load_manifest(settings.manifest)
    cache = Cache(manifest, settings.cache_dir)
    espeak_names = [espeak_voice(lang, female=female) for lang in "abefhijpz" for female in (True, False)]
    wanted = options.voices or [*sorted(VOICES), *espeak_names]
    espeak = EspeakEngine()
    with tempfile.TemporaryDirectory() as folder:
        g2p = G2P(None, folder)
        config, weights = cache.cached(manifest.config), cache.cached(manifest.model)
        if config is None or weights is None:
            print("no model: python -m benchmarks.real_model makes one, BENCHMARK_MODEL=real names it", file=sys.stderr)
            return 1
        engine = KokoroEngine(config, weights, "cpu")

        def by_kokoro(name: str, text: str) -> tuple[int, Samples]:
            pack = cache.cached(f"voices/{name}.pt")
            assert pack is not None, name
            phonemes = g2p.spoken(text, "a" if name[0] in "jz" else name[0], []).phonemes
            style = style_row(read_voice_pack(pack), len(phonemes))
            return len(phonemes), engine.synthesize([Phrase(phonemes=phonemes, style=style, speed=1.0, seed=1)])[
                0
            ].samples

        def by_espeak(name: str, text: str) -> tuple[int, Samples]:
            return len(text), espeak.synthesize(text, name[-2], 1.0, name[-1] == "f").samples

        rows([name for name in wanted if name in VOICES], by_kokoro)
        rows([name for name in wanted if name not in VOICES], by_espeak)
    espeak.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
