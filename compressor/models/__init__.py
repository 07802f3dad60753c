"""Networks by name, and taps that turn any of them into one that returns a `ModelOutput`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressor.models.create import create_model as create_model

__all__ = ["create_model"]


def __getattr__(name: str) -> Any:
    if name != "create_model":
        raise AttributeError(f"module 'compressor.models' has no attribute {name!r}")
    from compressor.models.create import create_model

    return create_model
