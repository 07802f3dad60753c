"""Images that lie decoded in memory, on the device, and are augmented as whole batches."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from compressor.data.pool import chosen_draws, pictures_each
from compressor.data.types import PLAIN, Augmentation, ImageBatch, ViewSlot
from compressor.data.views import viewed
from compressor.streams import generator


class ResidentSplit:
    """A split whose pixels are one tensor.

    The draws of an epoch come as whole arrays, one number a sample, so a sample's pixels depend on (seed, epoch, its
    position) and on nothing else. A training image is mirrored or not, once for all its views; then turned into the
    view; then, view by view, given a border of zeros and cut back to size at a place of its own. Views that share a
    crop are turned after it. With an augmentation pool the draws are functions of (pool seed, number of
    the draw, position).

    Args:
        images: (M, C, H, W) uint8, or float32 that is normalised already; may be shared by several splits.
        labels: (M,) int64.
        rows: (N,) which of the M images are in the split; None for all.
    """

    def __init__(self, images: Tensor, labels: Tensor, rows: Tensor | None = None) -> None:
        self._images = images
        self._all_labels = labels.cpu()
        self._rows = torch.arange(len(images)) if rows is None else rows.cpu()
        self._labels = self._all_labels[self._rows]
        self._device_rows = self._rows.to(images.device)
        self._device_labels = self._labels.to(images.device)
        self._drawn: tuple[tuple[int, ...], dict[str, Tensor]] = ((), {})

    @property
    def labels(self) -> Tensor:
        """(N,) int64 on the CPU."""
        return self._labels

    @property
    def normalised(self) -> bool:
        """Whether images are float32 that needs no further normalisation."""
        return self._images.dtype != torch.uint8

    @property
    def images(self) -> Tensor:
        """(N, C, H, W): a copy of the split's own images, as evaluated, on its device."""
        return self._images[self._device_rows]

    def __len__(self) -> int:
        return len(self._rows)

    def subset(self, positions: Tensor) -> "ResidentSplit":
        """Return the split of these positions; the pixels are shared."""
        return ResidentSplit(self._images, self._all_labels, self._rows[positions.cpu()])

    def batches(
        self,
        positions: Sequence[Tensor],
        *,
        slots: Sequence[ViewSlot] = (PLAIN,),
        augmentation: Augmentation | None = None,
        epoch: int = 0,
        seed: int = 0,
    ) -> Iterator[ImageBatch]:
        """Yield one batch for each tensor of positions; see `compressor.data.types.Split`.

        Raises:
            IndexError: a position is not in the split.
            UsageError: a view changes the shape of the images, as a quarter turn does unless they are square.
        """
        for wanted, index in zip(positions, self._all_sent(positions), strict=True):
            base = self._images[self._device_rows[index]]
            if augmentation is not None and augmentation.flip:
                mirrored = self._on_device(seed, epoch, "flip", augmentation)[index]
                base = torch.where(mirrored[:, None, None, None], base.flip(-1), base)
            views = [self._view(base, index, slot, augmentation, epoch, seed) for slot in slots]
            draw = None
            if augmentation is not None and (augmentation.pool or augmentation.numbered):
                draw = self._numbers(wanted.cpu(), slots, augmentation, epoch, seed)
            yield ImageBatch(torch.stack(views, dim=1), self._device_labels[index], index, draw)

    def _all_sent(self, positions: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return positions on the device; all go there at once, as the host waits for each copy."""
        if not positions:
            return ()
        wanted = torch.cat(list(positions))
        if len(wanted) and not 0 <= int(wanted.min()) <= int(wanted.max()) < len(self):
            raise IndexError(f"positions must be in [0, {len(self)})")
        return torch.split(wanted.to(self._images.device), [len(each) for each in positions])

    def _view(
        self, base: Tensor, index: Tensor, slot: ViewSlot, augmentation: Augmentation | None, epoch: int, seed: int
    ) -> Tensor:
        if slot.views.shared_crop:
            return viewed(self._cropped(base, index, slot, augmentation, epoch, seed), slot)
        return self._cropped(viewed(base, slot), index, slot, augmentation, epoch, seed)

    def _cropped(
        self, images: Tensor, index: Tensor, slot: ViewSlot, augmentation: Augmentation | None, epoch: int, seed: int
    ) -> Tensor:
        if augmentation is None or augmentation.crop_padding == 0:
            return images
        padding = augmentation.crop_padding
        corners = self._on_device(seed, epoch, f"crop/{slot.key}", augmentation)[index]
        return padded_crop(images, corners, padding)

    def _numbers(
        self, index: Tensor, slots: Sequence[ViewSlot], augmentation: Augmentation, epoch: int, seed: int
    ) -> Tensor:
        """Return (N, S): which picture each slot shows of each position of ``index``."""
        first = index * pictures_each(augmentation)
        if augmentation.pool:
            chosen = self._draws(seed, epoch, "chosen", augmentation)[index]
            return (first + chosen)[:, None].expand(-1, len(slots))
        side = 2 * augmentation.crop_padding + 1
        if augmentation.flip:
            first = first + self._draws(seed, epoch, "flip", augmentation)[index] * side**2
        if side == 1:
            return first[:, None].expand(-1, len(slots))
        corners = [self._draws(seed, epoch, f"crop/{slot.key}", augmentation)[index] for slot in slots]
        return torch.stack([first + corner[:, 0] * side + corner[:, 1] for corner in corners], dim=1)

    def _on_device(self, seed: int, epoch: int, purpose: str, augmentation: Augmentation) -> Tensor:
        drawn = self._draws(seed, epoch, purpose, augmentation)
        if self._images.device.type == "cpu":
            return drawn
        kept, key = self._drawn[1], f"{purpose}/{self._images.device}"
        if key not in kept:
            kept[key] = drawn.to(self._images.device)
        return kept[key]

    def _draws(self, seed: int, epoch: int, purpose: str, augmentation: Augmentation) -> Tensor:
        """Return the whole epoch's draws of one kind, (N,) or (N, 2), kept until another epoch is asked for."""
        settings = (augmentation.crop_padding, augmentation.pool, augmentation.pool_seed)
        if self._drawn[0] != (seed, epoch, *settings):
            self._drawn = ((seed, epoch, *settings), {})
        kept = self._drawn[1]
        if purpose not in kept:
            if purpose == "chosen":
                kept[purpose] = chosen_draws(seed, epoch, len(self), augmentation.pool)
            elif augmentation.pool:
                kept[purpose] = self._of_pool(purpose, self._draws(seed, epoch, "chosen", augmentation), augmentation)
            else:
                kept[purpose] = self._drawn_by(generator(seed, purpose, epoch), purpose, augmentation.crop_padding)
        return kept[purpose]

    def _of_pool(self, purpose: str, chosen: Tensor, augmentation: Augmentation) -> Tensor:
        """Take each position's chosen draw out of the pool's."""
        seed, padding = augmentation.pool_seed, augmentation.crop_padding
        taken = self._drawn_by(generator(seed, f"pool/{purpose}", 0), purpose, padding)
        for number in range(1, augmentation.pool):
            drawn = self._drawn_by(generator(seed, f"pool/{purpose}", number), purpose, padding)
            taken[chosen == number] = drawn[chosen == number]
        return taken

    def _drawn_by(self, owned: torch.Generator, purpose: str, padding: int) -> Tensor:
        if purpose == "flip":
            return torch.rand(len(self), generator=owned) < 0.5
        return torch.randint(0, 2 * padding + 1, (len(self), 2), generator=owned)


def padded_crop(images: Tensor, corners: Tensor, padding: int) -> Tensor:
    """Give every image a border of zeros and cut it back to its size.

    Args:
        images: (N, C, H, W), any type. padding: width of the border in pixels.
        corners: (N, 2) int64 top and left of each cut within the bordered image, in [0, 2 * padding].

    Returns:
        (N, C, H, W), same type.
    """
    height, width = images.shape[-2:]
    bordered = F.pad(images, (padding, padding, padding, padding))
    windows = bordered.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(images), device=images.device), :, corners[:, 0], corners[:, 1]]
