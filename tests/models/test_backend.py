"""The choice of a backend: which precisions a processor has instructions for, and what is said where it has none."""

import warnings

import numpy as np
import pytest
import torch

from hf_encoders.models import backend
from hf_encoders.models.backend import cpu_computes

X86 = "processor : 0\nflags\t\t: fpu avx2 avx512f {}\n\nprocessor : 1\nflags : fpu\n"
ARM = "processor : 0\nFeatures\t: fp asimd {}\n"


@pytest.fixture
def processor(monkeypatch, tmp_path):
    def use(text, capability="AVX512", machine="x86_64"):
        cpuinfo = tmp_path / "cpuinfo"
        if text is not None:
            cpuinfo.write_text(text)
        monkeypatch.setattr(backend, "_CPUINFO", cpuinfo)
        monkeypatch.setattr("platform.machine", lambda: machine)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        backend._cpu_flags.cache_clear()

    yield use
    backend._cpu_flags.cache_clear()


@pytest.mark.parametrize(
    ("processor_is", "bfloat16", "float16"),
    [
        ((X86.format(""),), False, False),
        ((X86.format("avx512_bf16"),), True, False),
        ((X86.format("amx_bf16 avx512_fp16"),), True, True),
        ((X86.format("avx512_bf16"), "AVX2"), False, False),  # PyTorch is told to leave it alone
        ((ARM.format("asimdhp bf16"), "DEFAULT", "aarch64"), True, True),
        ((ARM.format("asimdhp"), "DEFAULT", "aarch64"), False, True),
        ((None, "DEFAULT", "arm64"), True, True),  # the system does not tell
    ],
)
def test_the_flags_of_the_processor_tell(processor, processor_is, bfloat16, float16):
    processor(*processor_is)
    assert (cpu_computes(torch.bfloat16), cpu_computes(torch.float16)) == (bfloat16, float16)
    assert cpu_computes(torch.float32) and cpu_computes(torch.float64)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_a_precision_without_instructions_is_warned_about(dtype, tiny_encoder, monkeypatch):
    monkeypatch.setattr(backend, "cpu_computes", lambda dtype: dtype == torch.float32)
    name = str(dtype).removeprefix("torch.")
    with pytest.warns(UserWarning, match=rf"no instructions for {name}.*compute in float32") as caught:
        tiny_encoder.encode(torch.zeros(1, 1, 32, 32), dtype=dtype)
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(UserWarning, match=f"no instructions for {name}"):  # of weights in it, too
        tiny_encoder.to(getattr(torch, name)).encode(torch.zeros(0, 1, 32, 32))


def test_a_precision_that_the_processor_has_is_not_warned_about(tiny_encoder, monkeypatch):
    monkeypatch.setattr(backend, "cpu_computes", lambda dtype: True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_encoder.encode(torch.zeros(1, 1, 32, 32), dtype="bfloat16")
        tiny_encoder.encode(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize("dtype", ["int4", "fp8"])
def test_a_precision_that_is_none_lists_those_that_are(dtype, tiny_encoder):
    with pytest.raises(ValueError, match=f"dtype={dtype}: encode computes in bfloat16, float16, or the"):
        tiny_encoder.encode(np.ones((32, 32)), dtype=dtype)
