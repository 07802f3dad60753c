"""What compiling would win on top of the form in which a teacher is asked: ``ratio`` is that form's time over its own.

The form (folded, channels last, memory kept) and the same compiled and frozen by inductor answer the views of one SSKD
step in turn. Compiling needs a C++ compiler.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.record import Row, asked_of, write
from compressor.cli.process import prepare_process
from compressor.config.settings import RuntimeConfig
from compressor.engine.inference import inference_form
from compressor.engine.normalise import Normalisation
from compressor.engine.runtime import Runtime
from compressor.models.catalogue import resolve_name
from compressor.models.create import build

TEACHERS = ("resnet32x4", "wrn_40_2")
_VIEWS = 256  # four of each of 64 images
_TOLERANCE = 1e-4  # of the largest logit


def measure(teacher: str, rounds: int) -> Row:
    """Measure one teacher."""
    import torch._inductor.config as inductor

    torch.manual_seed(0)
    net = build(resolve_name(teacher), num_classes=100, image_size=32, pretrained=False).module.eval()
    normalisation = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    form = inference_form(net.requires_grad_(False), normalisation, (3, 32, 32), Runtime(RuntimeConfig(device="cpu")))
    eager = form.form  # type: ignore[attr-defined]  # nothing was asked to be plain
    images = torch.randn(_VIEWS, 3, 32, 32).to(memory_format=torch.channels_last)
    inductor.freezing = True
    compiled = torch.compile(eager)
    began = time.perf_counter()
    answer = _timed(compiled, images)[1]
    compiling = time.perf_counter() - began
    expected = _timed(eager, images)[1]
    assert (answer - expected).abs().max() <= _TOLERANCE * expected.abs().max()
    taken = [(_timed(eager, images)[0], _timed(compiled, images)[0]) for _ in range(rounds)]
    own, other = median(one for one, _ in taken), median(two for _, two in taken)
    return {
        "case": f"{teacher}, {_VIEWS} views",
        "form_s": own,
        "compiled_s": other,
        "ratio": median(one / two for one, two in taken),
        "compiling_s": compiling,
    }


def _timed(net: Callable[[Tensor], Tensor] | nn.Module, images: Tensor) -> tuple[float, Tensor]:
    began = time.perf_counter()
    with torch.no_grad():
        answer: Tensor = net(images)
    return time.perf_counter() - began, answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the teachers, print a table, write the file."""
    asked = asked_of(__doc__, arguments)
    prepare_process(0)
    with tempfile.TemporaryDirectory() as fresh:  # what was compiled before would count as quickly compiled
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = fresh
        rows = [measure(teacher, asked.rounds) for teacher in TEACHERS]
    write("compiled", rows, asked.json, ratios={str(row["case"]): float(row["ratio"]) for row in rows})


if __name__ == "__main__":
    main()
