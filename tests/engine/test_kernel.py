"""The compiled decoder against the one in plain torch, on the toy Kokoro, compiled for several kinds of processors."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess

import pytest

from kokoro_common.engine import kernel
from kokoro_common.engine.tuning import signal_to_noise
from tests.conftest import ROOT
from tests.helpers.requirements import program

# What a compiler is told: this machine, and on x86 what makes it take vectors of 16, 8 and 4 numbers.
VECTORS = ["x86-64-v4", "haswell", "x86-64"] if platform.machine() == "x86_64" else []
TEXTS = ("ə", "həlˈO", "wˈʌn tˈu θɹˈi fˈɔɹ fˈIv, sˈɪks sˈɛvən ˈAt")


def runs(target: str) -> bool:
    with open("/proc/cpuinfo") as file:
        flags = file.read()
    return target == "x86-64" or {"x86-64-v4": "avx512vl", "haswell": "avx2"}[target] in flags


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiles kernel.c once for each target, with every warning an error."""
    compiler = program("cc", "gcc libc6-dev")
    directory = tmp_path_factory.mktemp("kernel")

    def compile_for(target: str) -> object:
        library = directory / f"{target}.so"
        if not library.exists():
            options = [
                "-O3",
                f"-march={target}",
                "-DANY_VECTORS",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-shared",
                "-fPIC",
                "-pthread",
                "-lm",
            ]
            subprocess.run(
                [compiler, *options, "-o", str(library), str(ROOT / "kokoro_common" / "engine" / "kernel.c")],
                check=True,
            )
        found, problem = kernel.load_from(str(library))
        assert found is not None, problem
        return found

    return compile_for


class Bench:
    """A network, what it makes of some phrases, and what its own decoder makes of that."""

    def __init__(self, toy):
        import torch

        from kokoro_common.engine.decoder import TorchDecoder
        from kokoro_common.engine.network import Network

        self.config = json.loads(toy.config_path.read_text("utf-8"))
        self.network = Network(self.config, str(toy.weights_path), "cpu")
        self.weights = self.network.take_decoder_weights()
        pack = torch.load(toy.voice_path("af_bella"), weights_only=True)
        known = self.network.vocabulary
        self.phrases = []
        for number, text in enumerate(TEXTS):
            style = pack[len(text) - 1]
            prosody = self.network.prosody([[0, *(known[each] for each in text if each in known), 0]], style, [1.0])
            source = self.network.source(prosody.f0, prosody.units, [number])
            self.phrases.append((prosody.asr, prosody.f0, prosody.energy, style, source, prosody.units))
        plain = TorchDecoder(self.weights, self.config["istftnet"], torch.float32)
        self.expected = [self.audio(plain, phrase) for phrase in self.phrases]

    def decoder(self, library, precision="fp32"):
        from kokoro_common.engine.kernel_decoder import KernelDecoder

        return KernelDecoder(library, self.weights, self.config["istftnet"], precision)

    def audio(self, decoder, phrase):
        (audio,) = self.network.waveform(decoder.decode(*phrase), phrase[-1])
        return audio.numpy()


@pytest.fixture(scope="module")
def bench(varied_kokoro):
    return Bench(varied_kokoro)


def test_the_installed_kernel_can_be_used_where_there_is_a_compiler():
    library, problem = kernel.load()
    assert library is not None or shutil.which("cc") is None, problem


@pytest.mark.model
@pytest.mark.parametrize("target", ["native", *VECTORS])
def test_the_audio_is_that_of_plain_torch(bench, compiled, target):
    if target != "native" and not runs(target):
        pytest.skip(f"this processor does not run {target}")
    decoder = bench.decoder(compiled(target))
    for phrase, expected in zip(bench.phrases, bench.expected, strict=True):
        assert signal_to_noise(expected, bench.audio(decoder, phrase)) > 100


@pytest.mark.model
def test_bfloat16_stays_close(bench, compiled):
    library = compiled("native")
    if not kernel.has_bf16(library):
        pytest.skip("this processor has no matrix unit")
    decoder = bench.decoder(library, "bf16")
    for phrase, expected in zip(bench.phrases, bench.expected, strict=True):
        assert 30 < signal_to_noise(expected, bench.audio(decoder, phrase)) < 90


@pytest.mark.model
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_number_of_threads_changes_no_bit(bench, compiled, precision):
    import torch

    library = compiled("native")
    if precision == "bf16" and not kernel.has_bf16(library):
        pytest.skip("this processor has no matrix unit")
    decoder, phrase, before = bench.decoder(library, precision), bench.phrases[2], torch.get_num_threads()
    spectra = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            spectra.append(decoder.decode(*phrase))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(spectra[0], each) for each in spectra[1:])


@pytest.mark.model
def test_several_phrases_are_padded_and_each_is_as_alone(bench, compiled):
    import torch
    from torch.nn.functional import pad

    decoder = bench.decoder(compiled("native"))
    units = [phrase[-1][0] for phrase in bench.phrases]
    longest = max(units)
    rows = bench.phrases[0][4].shape[2] // units[0]  # of a spectrogram, per unit
    batch = []
    for place, length in ((0, longest), (1, 2 * longest), (2, 2 * longest), (4, rows * longest + 1)):
        items = [phrase[place] for phrase in bench.phrases]
        batch.append(torch.cat([pad(item, (0, length - item.shape[-1]), value=9.0) for item in items]))
    styles = torch.cat([phrase[3] for phrase in bench.phrases])
    together = decoder.decode(batch[0], batch[1], batch[2], styles, batch[3], units)
    for number, phrase in enumerate(bench.phrases):
        alone = decoder.decode(*phrase)[0]
        assert torch.equal(together[number, :, : alone.shape[1]], alone)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("int kokoro_interface(void) { return 999; }", "compiled from another version"),
        ("int unrelated(void) { return 1; }", "cannot be loaded"),
    ],
)
def test_a_library_that_is_not_this_kernel_is_refused(source, problem, tmp_path):
    compiler = program("cc", "gcc libc6-dev")
    (tmp_path / "other.c").write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "other.so", "other.c"], cwd=tmp_path, check=True)
    library, reason = kernel.load_from(str(tmp_path / "other.so"))
    assert library is None and problem in reason


def test_a_file_that_is_no_library_is_refused(tmp_path):
    (tmp_path / "kernel.so").write_bytes(b"not ELF")
    library, reason = kernel.load_from(str(tmp_path / "kernel.so"))
    assert library is None and "cannot be loaded" in reason


def test_the_steps_are_laid_out_as_the_compiler_does(compiled):
    import ctypes

    assert compiled("native").kokoro_step_bytes() == ctypes.sizeof(kernel.Step)


@pytest.mark.model
def test_bfloat16_without_a_matrix_unit_is_refused(bench, compiled):
    library = compiled("haswell" if VECTORS else "native")
    if kernel.has_bf16(library):
        pytest.skip("this processor has one")
    with pytest.raises(ValueError, match="no matrix unit"):
        bench.decoder(library, "bf16")
    step = kernel.Step(parts=1, out_rows=1)
    assert library.kokoro_run((kernel.Step * 1)(step), 1, 1) == -2


@pytest.mark.model
def test_a_decoder_is_freed_when_it_is_dropped(bench, compiled):
    import gc
    import weakref

    decoder = bench.decoder(compiled("native"))
    decoder.decode(*bench.phrases[0])
    gc.disable()
    try:
        gone = weakref.ref(decoder)
        del decoder
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.model
def test_a_model_that_the_kernel_is_not_made_for_is_told(bench):
    import torch

    weights = {**bench.weights, "generator.resblocks.0.alpha1.0": torch.ones(1, 40, 1)}
    assert "multiple of 32" in kernel.misfit(weights, bench.config["istftnet"])
    narrow = {**bench.config["istftnet"], "upsample_kernel_sizes": [16, 12]}
    assert "twice as wide" in kernel.misfit(bench.weights, narrow)
    assert kernel.misfit(bench.weights, bench.config["istftnet"]) == ""
