"""Makes a view of images that have their final size."""

from torch import Tensor

from compressor.data.types import ViewSlot
from compressor.errors import UsageError


def viewed(images: Tensor, slot: ViewSlot) -> Tensor:
    """Return the slot's view of ``images`` (N, C, H, W), same shape.

    Raises:
        UsageError: the view has another shape, as a quarter turn has unless the images are square.
    """
    view = slot.views.transform(images, slot.view) if slot.view else images
    if view.shape != images.shape:
        raise UsageError(
            f"view {slot.view} of {slot.views.family} makes {tuple(view.shape[1:])} of {tuple(images.shape[1:])}: "
            "these views need square images",
            hint="--img-size with one number",
        )
    return view
