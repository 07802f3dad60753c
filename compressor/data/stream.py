"""Images that are decoded when they are wanted, in worker processes, because together they are too large for memory."""

import atexit
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from compressor.data.images import (
    Size,
    UnreadableImage,
    crop_resize,
    fit,
    quiet_decoder,
    random_box,
    set_decoder_filters,
)
from compressor.data.pool import chosen_draws
from compressor.data.stores import Images, unreadable_error
from compressor.data.transfer import sent
from compressor.data.types import PLAIN, Augmentation, ImageBatch, ViewSlot
from compressor.data.views import viewed
from compressor.errors import TrainingError
from compressor.streams import generator

_TRIES = 10


@dataclass(frozen=True)
class _Unreadable:
    """What a worker answers in place of pixels: an exception would lose its hint on the way through the loader."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Request:
    """Everything a worker must know to make the pixels of any sample of an epoch."""

    images: Images
    rows: tuple[int, ...]
    size: Size
    crop_pct: float
    slots: tuple[ViewSlot, ...]
    augmentation: Augmentation | None
    epoch: int
    seed: int
    chosen: Tensor | None = None  # (N,) of an augmentation pool: which of its draws each sample takes

    def sample(self, position: int) -> Tensor:
        """Return (S, 3, H, W): one sample in every slot."""
        image = self.images.read(self.rows[position])
        changes = self.augmentation
        if changes is None:
            base = fit(image, self.size, self.crop_pct)
            return torch.stack([viewed(base[None], slot)[0] for slot in self.slots])
        if changes.flip and float(torch.rand(1, generator=self._owned("flip", position))) < 0.5:
            image = image.flip(-1)
        if any(_of_plain_crop(slot) for slot in self.slots):
            plain = self._cropped(image, PLAIN, position, changes)
        return torch.stack(
            [
                viewed(plain[None], slot)[0]
                if _of_plain_crop(slot)
                else self._cropped(slot.views.transform(image[None], slot.view)[0], slot, position, changes)
                for slot in self.slots
            ]
        )

    def _cropped(self, image: Tensor, slot: ViewSlot, position: int, changes: Augmentation) -> Tensor:
        draws = torch.rand((_TRIES, 4), generator=self._owned(f"crop/{slot.key}", position), dtype=torch.float64)
        height, width = image.shape[-2:]
        return crop_resize(image, random_box((height, width), draws, changes.crop_scale), self.size)

    def _owned(self, purpose: str, position: int) -> torch.Generator:
        if self.chosen is not None and self.augmentation is not None:
            return generator(self.augmentation.pool_seed, f"pool/{purpose}", int(self.chosen[position]), position)
        return generator(self.seed, purpose, self.epoch, position)


class _Batches(Dataset[Tensor | _Unreadable]):
    """Hands out whole batches: the loader's sampler yields lists of positions."""

    def __init__(self, request: _Request) -> None:
        self._request = request

    def __getitem__(self, positions: list[int]) -> Tensor | _Unreadable:
        made: list[Tensor] = []
        for position in positions:
            try:
                made.append(self._request.sample(position))
            except UnreadableImage as cause:
                return _Unreadable(self._request.images.name(self._request.rows[position]), str(cause))
        return torch.stack(made)


class StreamSplit:
    """A split whose images are decoded anew each time.

    A training image is mirrored or not, once for all its views; turned into the view; then, view by view, a random
    part of it (`random_box`) is resized. Views that share a crop are turned after it. Each sample's draws come from a
    generator of its own, so neither batches nor workers change a pixel; with an augmentation pool that generator is of
    the pool's seed and the draw's number. Otherwise an image is resized to cover
    ``size / crop_pct`` and its centre cut out.

    Args:
        images: of which the split is a part. labels: (M,) int64 of all of them. rows: (N,) which of the M.
        size: height and width of what is delivered. crop_pct: see above, in (0, 1].
        workers: processes that decode; 0 decodes in this one. device: where batches are delivered.
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        rows: Tensor | None = None,
        *,
        size: Size,
        crop_pct: float = 1.0,
        workers: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self._images = images
        self._all_labels = labels.cpu()
        self._rows = torch.arange(len(images)) if rows is None else rows.cpu()
        self._labels = self._all_labels[self._rows]
        self._size = size
        self._crop_pct = crop_pct
        self._workers = workers
        self._device = device or torch.device("cpu")

    @property
    def labels(self) -> Tensor:
        """(N,) int64 on the CPU."""
        return self._labels

    @property
    def crop_pct(self) -> float:
        """Share of each side that the centre crop of evaluation keeps, in (0, 1]."""
        return self._crop_pct

    @property
    def normalised(self) -> bool:
        """Whether images are float32 that needs no further normalisation."""
        return self._images.normalised

    def __len__(self) -> int:
        return len(self._rows)

    def subset(self, positions: Tensor) -> "StreamSplit":
        """Return the split of these positions."""
        return StreamSplit(
            self._images,
            self._all_labels,
            self._rows[positions.cpu()],
            size=self._size,
            crop_pct=self._crop_pct,
            workers=self._workers,
            device=self._device,
        )

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

        Closing the iterator early stops the workers.

        Raises:
            IndexError: a position is not in the split.
            UsageError: a view of the finished image has another shape, as a quarter turn has unless it is square.
            InputError: an image cannot be read, or is no longer the one that was scanned; names it.
            TrainingError: a worker process was killed from outside.
        """
        wanted = [each.cpu() for each in positions]
        for each in wanted:
            if len(each) and not 0 <= int(each.min()) <= int(each.max()) < len(self):
                raise IndexError(f"positions must be in [0, {len(self)})")
        for slot in slots:
            if augmentation is None or slot.views.shared_crop:
                viewed(torch.zeros(1, 1, *self._size), slot)  # here, as an error of a worker would lose its hint
        pool = 0 if augmentation is None else augmentation.pool
        chosen = chosen_draws(seed, epoch, len(self), pool) if pool else None
        request = _Request(
            images=self._images,
            rows=tuple(self._rows.tolist()),
            size=self._size,
            crop_pct=self._crop_pct,
            slots=tuple(slots),
            augmentation=augmentation,
            epoch=epoch,
            seed=seed,
            chosen=chosen,
        )
        with closing(_Answers(request, [each.tolist() for each in wanted], self._workers)) as answers:
            for index in wanted:
                answer = answers.next()
                if isinstance(answer, _Unreadable):
                    raise unreadable_error(answer.name, answer.reason)
                draw = None if chosen is None else (index * pool + chosen[index])[:, None].expand(-1, len(slots))
                pixels, labels, places = (sent(each, self._device) for each in (answer, self._labels[index], index))
                yield ImageBatch(pixels, labels, places, draw)


class _Answers:
    """What the loader's workers answer, batch by batch; they end with `close`."""

    def __init__(self, request: _Request, batches: list[list[int]], workers: int) -> None:
        loader: DataLoader[Tensor | _Unreadable] = DataLoader(
            _Batches(request),
            batch_size=None,
            sampler=cast("Sampler[Any]", batches),
            num_workers=min(workers, len(batches)),
            collate_fn=_unchanged,
            worker_init_fn=_begin_worker,
            generator=generator(request.seed, "loader", request.epoch),  # else it draws from the global one
        )
        self._decodes_here = loader.num_workers == 0
        self._iterator: Iterator[Tensor | _Unreadable] | None = iter(loader)
        # An interpreter that ends with batches half read, as after an exception, would send the workers SIGTERM, which
        # they ignore, and wait for them for ever.
        atexit.register(self.close)

    def next(self) -> Tensor | _Unreadable:
        """Return the next batch; raises `TrainingError` when a worker was found dead while waiting for it."""
        assert self._iterator is not None, "closed"
        try:
            with quiet_decoder() if self._decodes_here else nullcontext():
                return next(self._iterator)
        except RuntimeError as cause:
            if not str(cause).startswith("DataLoader worker (pid"):
                raise
            raise TrainingError(f"a data worker died: {cause}", hint="fewer --workers, or more memory") from cause

    def close(self) -> None:
        """End the workers: the loader does so when its iterator is dropped."""
        atexit.unregister(self.close)
        self._iterator = None


def _of_plain_crop(slot: ViewSlot) -> bool:
    return slot.view == 0 or slot.views.shared_crop


def _unchanged(answer: Any) -> Any:
    return answer


def _begin_worker(worker: int) -> None:
    # Ctrl-C reaches the whole process group; the main process decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_decoder_filters()
