"""A worker: our own training step, as a run does it, on random images of a given size."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.workers import serve

if TYPE_CHECKING:
    from compressor.engine.trainer import PhaseLoop


def random_images(folder: Path, *, images: int, size: int, classes: int) -> Path:
    """Write random images and labels in which every class is alike."""
    draw = np.random.default_rng(0)
    labels = np.arange(images) % classes
    pixels = draw.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    path = folder / "random.npz"
    few = max(classes, 64)
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels[:few], y_test=labels[:few])
    return path


def loop_of(
    methods: list[str],
    pair: str,
    folder: Path,
    *,
    images: int = 50_000,
    size: int = 32,
    classes: int = 100,
    settings: dict[str, Any] | None = None,
) -> "PhaseLoop":
    """Set up one loop for lanes of these methods (``kd+kd`` has two seeds' students), as the command line would."""
    from compressor.config.layers import Layer, resolve
    from compressor.engine.rehearsal import last_phase

    teacher, student = pair.split(":")
    source = random_images(folder, images=images, size=size, classes=classes)
    given = {
        "data.source": str(source),
        "data.val_split": 0.0,
        "data.crop_padding": 4,
        "data.flip": True,
        "teacher.name": teacher,
        "student.name": student,
        "training.batch_size": 64,
        "runtime.device": "cpu",
        **(settings or {}),
    }
    configs = [resolve([Layer("benchmark", {**given, "method.name": name})]).config for name in methods]
    return last_phase(configs)


def main() -> None:
    """Prepare the case and serve."""
    from compressor.cli.process import prepare_process

    parser = argparse.ArgumentParser()
    parser.add_argument("methods")
    parser.add_argument("pair")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--compile-teacher", default="auto", choices=("auto", "on", "off"))
    asked = parser.parse_args()
    prepare_process(asked.threads, plain=asked.plain)
    with tempfile.TemporaryDirectory() as folder:
        loop = loop_of(
            asked.methods.split("+"),
            asked.pair,
            Path(folder),
            images=asked.images,
            size=asked.size,
            classes=asked.classes,
            settings={"runtime.plain": asked.plain, "runtime.compile_teacher": asked.compile_teacher},
        )
        serve(lambda: loop.rehearse(1)[0])


if __name__ == "__main__":
    sys.exit(main())
