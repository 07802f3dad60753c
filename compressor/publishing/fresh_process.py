"""Run in a new interpreter: load a published folder as a stranger would and measure how far its answers are off.

Reads one JSON argument: ``folder``, ``probe`` (a safetensors file with ``images`` and ``logits``), ``requires``,
``factory``, its ``arguments``, ``threads``, ``path``. Prints one JSON line: ``shape``, ``difference``.
"""

import importlib
import json
import sys
from typing import Any


def main() -> None:
    """Do it; any failure is a traceback whose last line the caller shows."""
    request = json.loads(sys.argv[1])
    if request["factory"] is None:
        sys.modules["compressor"] = None  # type: ignore[assignment]  # an import of the package fails: no help from it
    sys.path += [place for place in request["path"] if place not in sys.path]
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(request["threads"])
    for name in request["requires"]:
        importlib.import_module(name)
    model = _load(request).eval()
    probe = load_file(request["probe"])
    with torch.no_grad():
        logits = model(probe["images"])
    fits = logits.shape == probe["logits"].shape
    difference = (logits - probe["logits"]).abs().max().item() if fits else None
    print(json.dumps({"shape": list(logits.shape), "difference": difference}))  # noqa: T201  # its only answer


def _load(request: dict[str, Any]) -> Any:
    if request["factory"] is None:
        import timm

        return timm.create_model(f"local-dir:{request['folder']}", pretrained=True)
    from safetensors.torch import load_file

    place, _, attribute = request["factory"].partition(":")
    factory = getattr(importlib.import_module(place), attribute)
    model = factory(**request["arguments"])
    model.load_state_dict(load_file(f"{request['folder']}/model.safetensors"))
    return model


if __name__ == "__main__":
    main()
