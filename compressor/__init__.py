"""Distil a good but heavy image classifier into a small one that loses little.

Nothing heavy is imported until a name is used::

    import compressor

    result = compressor.distill(method="sskd", teacher="resnet32x4", student="shufflenetv2", data="digits")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressor.api import compare as compare
    from compressor.api import distill as distill
    from compressor.api import publish as publish
    from compressor.models import create_model as create_model

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "create_model", "distill", "publish"]

_HOMES = {
    "compare": "compressor.api",
    "distill": "compressor.api",
    "publish": "compressor.api",
    "create_model": "compressor.models",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compressor' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
