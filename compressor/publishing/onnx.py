"""The student as one ONNX file, for use without any Python class; needs the extra ``onnx``."""

import copy
import importlib.util
import io
import warnings
from pathlib import Path

import torch
from torch import nn

from compressor import storage
from compressor.errors import InputError, UsageError

TOLERANCE = 1e-4  # of a logit: another runtime adds in another order
_PACKAGES = ("onnx", "onnxruntime")


def export_onnx(module: nn.Module, path: str | Path, input_size: tuple[int, int, int], *, opset: int = 17) -> float:
    """Write ``module`` as ONNX (``images`` (B, C, H, W) to ``logits`` (B, K), any B) and check it with onnxruntime.

    Args:
        module: Copied to the CPU in float32 and eval mode.
        path: Of the file; written whole or not at all.
        input_size: (C, H, W) in pixels; fixed in the file.
        opset: Version of the ONNX operators.

    Returns:
        The largest difference of a logit between onnxruntime and torch.

    Raises:
        UsageError: The extra is not installed.
        InputError: The network cannot be expressed in ONNX, or answers differently there.
        StorageError: It could not be written.
    """
    check_installed()
    module = copy.deepcopy(module).cpu().float().eval()
    data = _export(module, torch.zeros(2, *input_size), opset)
    difference = _difference(module, data, input_size)
    if not difference <= TOLERANCE:
        raise InputError(f"the ONNX file answers differently from the student (by {difference:.3g}); not written")
    storage.write_bytes(path, data)
    return difference


def check_installed() -> None:
    """Raise UsageError unless the packages of the extra ``onnx`` are there."""
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise UsageError(f"ONNX export needs {missing[0]}", hint="pip install 'compress-kd[onnx]'")


def _export(module: nn.Module, images: torch.Tensor, opset: int) -> bytes:
    buffer = io.BytesIO()
    batch = {"images": {0: "batch"}, "logits": {0: "batch"}}
    try:
        with warnings.catch_warnings():
            # The tracing exporter needs no further package; that it is the older one is known.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (images,),
                buffer,  # type: ignore[arg-type]  # the tracing exporter writes to any binary file
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes=batch,
                opset_version=opset,
                dynamo=False,
            )
    except (RuntimeError, ValueError, TypeError) as cause:
        raise InputError(f"this network cannot be written as ONNX: {str(cause).strip().splitlines()[0]}") from cause
    return buffer.getvalue()


def _difference(module: nn.Module, data: bytes, input_size: tuple[int, int, int]) -> float:
    import onnxruntime

    images = torch.rand(5, *input_size, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    logits = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
    with torch.no_grad():
        expected = module(images)
    if logits.shape != expected.shape:
        raise InputError(f"the ONNX file answers with {tuple(logits.shape)}, not {tuple(expected.shape)}; not written")
    return float((logits - expected).abs().max())
