"""A worker: the authors' own training step, their code read from a clone of theirs and run unchanged on the CPU.

What the clones need of an accelerator and of packages that are long gone is put in their place: ``.cuda()`` returns the
tensor, and names that torch has dropped since come back. Their images are random, of CIFAR-100's shape.
"""

import argparse
import ast
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.workers import Step, serve

THEIR_WORD = {"fitnet": "hint"}
"""What they call a method, where it is not as we do."""
_BATCH = 64
_CLASSES = 100
_NORMAL = {"mean": [0.5071, 0.4866, 0.4409], "std": [0.2675, 0.2565, 0.2761]}


def _without_accelerator() -> None:
    torch.Tensor.cuda = lambda self, *_args, **_more: self  # type: ignore[method-assign]
    nn.Module.cuda = lambda self, *_args, **_more: self  # type: ignore[method-assign]
    torch._six = SimpleNamespace(string_classes=(str,))  # type: ignore[attr-defined]
    sys.modules["torch._six"] = torch._six  # type: ignore[attr-defined]


def _images(count: int) -> tuple[Any, list[int]]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return pixels, [number % _CLASSES for number in range(count)]


def sskd(clone: Path, pair: str) -> Step:
    """The body of the student's training loop in ``student.py``, taken out of its source and run step by step."""
    sys.path.insert(0, str(clone))
    import cifar  # type: ignore[import-not-found]  # of the clone
    from models import model_dict  # type: ignore[import-not-found]  # of the clone
    from torchvision import transforms
    from utils import AverageMeter, accuracy  # type: ignore[import-not-found]  # of the clone
    from wrapper import wrapper  # type: ignore[import-not-found]  # of the clone

    teacher_name, student_name = pair.split(":")
    names = {"shufflenetv2": "ShuffleV2", "shufflenetv1": "ShuffleV1"}
    data = object.__new__(cifar.CIFAR100)
    data.data, data.targets = _images(4096)
    data.train = True
    data.transform = transforms.Compose(
        [transforms.RandomCrop(32, padding=4), transforms.ToTensor(), transforms.Normalize(**_NORMAL)]
    )
    student = wrapper(module=model_dict[names.get(student_name, student_name)](num_classes=_CLASSES)).train()
    scope: dict[str, Any] = {
        "torch": torch,
        "F": nn.functional,
        "np": np,
        "AverageMeter": AverageMeter,
        "accuracy": accuracy,
        "args": _sskd_arguments(clone / "student.py"),
        "t_model": wrapper(module=model_dict[names.get(teacher_name, teacher_name)](num_classes=_CLASSES)).eval(),
        "s_model": student,
        "optimizer": torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4),
        **{f"{name}_record": AverageMeter() for name in ("loss1", "loss2", "loss3", "loss4", "cls_acc", "ssp_acc")},
    }
    body = _loop_body(clone / "student.py")

    def step() -> float:
        began = time.monotonic()
        rows = [data[int(number)] for number in np.random.randint(0, len(data), _BATCH)]
        scope["x"] = torch.stack([image for image, _ in rows])
        scope["target"] = torch.tensor([label for _, label in rows])
        exec(body, scope)  # the clone's own statements
        return time.monotonic() - began

    return step


def _loop_body(script: Path) -> Any:
    """Compile the statements inside the last loop over ``train_loader`` that also takes the labels."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For) and ast.unparse(node.iter) == "train_loader"]
    last = max((node for node in loops if "target" in ast.unparse(node.target)), key=lambda node: node.lineno)
    return compile(ast.Module(body=last.body, type_ignores=[]), str(script), "exec")


def _sskd_arguments(script: Path) -> Namespace:
    """Read the script's own defaults out of its ``add_argument`` calls."""
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            given = {item.arg: item.value for item in node.keywords}
            if isinstance(node.args[0], ast.Constant) and "default" in given:
                name = str(node.args[0].value).lstrip("-").replace("-", "_")
                found[name] = ast.literal_eval(given["default"])
    return Namespace(**found)


def repdistiller(clone: Path, method: str, pair: str) -> Step:
    """One batch through the benchmark's own ``train_distill``, with the loader's work counted in."""
    sys.path.insert(0, str(clone))
    from contextlib import redirect_stdout
    from io import StringIO

    from crd.criterion import CRDLoss  # type: ignore[import-not-found]  # of the clone
    from distiller_zoo import DistillKL, HintLoss  # type: ignore[import-not-found]  # of the clone
    from helper.loops import train_distill  # type: ignore[import-not-found]  # of the clone
    from models import model_dict  # type: ignore[import-not-found]  # of the clone
    from models.util import ConvReg  # type: ignore[import-not-found]  # of the clone

    names = {"shufflenetv2": "ShuffleV2"}
    teacher, student = (model_dict[names.get(name, name)](num_classes=_CLASSES) for name in pair.split(":"))
    modules, trained = nn.ModuleList([student]), nn.ModuleList([student])
    options = Namespace(distill=method, hint_layer=2, gamma=1.0, alpha=0.0, beta=1.0, print_freq=10**9)
    criterion: nn.Module = DistillKL(4)
    count = 50_000
    if method == "kd":
        options.gamma, options.alpha = 0.1, 0.9
    elif method == "hint":
        options.beta = 100.0
        with torch.no_grad():
            shapes = [net.eval()(torch.randn(2, 3, 32, 32), is_feat=True)[0][2].shape for net in (student, teacher)]
        regressor = ConvReg(*shapes)
        criterion = HintLoss()
        modules.append(regressor)
        trained.append(regressor)
    else:
        options.beta = 0.8
        widths = [net.eval()(torch.randn(2, 3, 32, 32), is_feat=True)[0][-1].shape[1] for net in (student, teacher)]
        about = Namespace(
            s_dim=widths[0], t_dim=widths[1], feat_dim=128, n_data=count, nce_k=16384, nce_t=0.07, nce_m=0.5
        )
        criterion = CRDLoss(about)
        modules.extend([criterion.embed_s, criterion.embed_t])
        trained.extend([criterion.embed_s, criterion.embed_t])
    criteria = nn.ModuleList([nn.CrossEntropyLoss(), DistillKL(4), criterion])
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    modules.append(teacher)
    rows = _benchmark_rows(count, method)

    def step() -> float:
        began = time.monotonic()
        with redirect_stdout(StringIO()):
            train_distill(1, [rows()], modules, criteria, optimizer, options)
        return time.monotonic() - began

    return step


def _benchmark_rows(count: int, method: str) -> Any:
    """Make batches as the benchmark's data sets do: PIL images one by one, and for CRD negatives by ``choice``."""
    from PIL import Image
    from torchvision import transforms

    prepare = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(_NORMAL["mean"], _NORMAL["std"]),
        ]
    )
    pixels, labels = _images(4096)
    of_all = np.arange(count) % _CLASSES
    others = {label: np.flatnonzero(of_all != label) for label in range(_CLASSES)} if method == "crd" else {}

    def rows() -> list[torch.Tensor]:
        chosen = np.random.randint(0, len(labels), _BATCH)
        images = torch.stack([prepare(Image.fromarray(pixels[number])) for number in chosen])
        batch = [images, torch.tensor([labels[number] for number in chosen]), torch.from_numpy(chosen)]
        if method == "crd":
            drawn = [np.random.choice(others[labels[number]], 16384, replace=False) for number in chosen]
            batch.append(torch.from_numpy(np.hstack([chosen[:, None], np.stack(drawn)])))
        return batch

    return rows


def main() -> None:
    """Prepare the case and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=("sskd", "kd", "hint", "crd"))
    parser.add_argument("pair")
    parser.add_argument("clone", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    asked = parser.parse_args()
    from compressor.cli.process import physical_cores

    torch.set_num_threads(asked.threads or physical_cores())
    _without_accelerator()
    step = (
        sskd(asked.clone, asked.pair) if asked.method == "sskd" else repdistiller(asked.clone, asked.method, asked.pair)
    )
    serve(step)


if __name__ == "__main__":
    main()
