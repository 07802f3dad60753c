"""From the name of a source to splits that are ready for a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from compressor.data.identity import combine, hash_listing, hash_pixels, spaced
from compressor.data.images import Size, fit, quiet_decoder
from compressor.data.resident import ResidentSplit
from compressor.data.scenarios import LabelNoise, Scenario, choose, flip_labels
from compressor.data.sources import read_source
from compressor.data.splits import validation_split
from compressor.data.stores import Part, RawData, materialise, read_or_refuse
from compressor.data.stream import StreamSplit
from compressor.data.types import DataSet, Split
from compressor.errors import InputError, UsageError
from compressor.storage import memory_bytes, readable_bytes

Pipeline = Literal["auto", "resident", "stream"]
RESIDENT_BYTES = 2**30
"""Up to this many bytes of decoded pixels ``auto`` keeps the data in memory."""

_STATISTICS_SAMPLE = 512
_CHUNK = 4096


def load_data(
    source: str | tuple[Any, ...],
    *,
    directory: str | None = None,
    val_split: float = 0.1,
    image_size: int | Size | None = None,
    default_size: int | Size | None = None,
    shots: int | None = None,
    fraction: float = 100.0,
    imbalance: float = 1.0,
    label_noise: float = 0.0,
    skip_bad_images: bool = False,
    pipeline: Pipeline = "auto",
    workers: int = 0,
    device: torch.device | None = None,
    split_seed: int = 0,
    crop_pct: float = 0.875,
) -> DataSet:
    """Read a source, leave out or refuse what cannot be read, split it, and say how its images are delivered.

    Nothing depends on a run's seed: all methods and seeds see the same splits.

    Resident images are resized and centre-cropped to the run's size once, then augmented by bordered crops; streamed
    ones are decoded each time and augmented by random resized crops. Mean and deviation are those of the training
    images before any scenario; of streamed ones, of up to 512 evenly spaced images; of normalised ones, 0 and 1.

    Args:
        source: see `compressor.data.catalogue`; or (train, test) or (train, val, test) Python datasets.
        directory: where ``torch/`` and ``hfds/`` sources lie.
        val_split: share of training held out, in [0, 1), where the source has no validation part; 0 for none.
        image_size: pixels, one number or (height, width); None takes the size that all images have.
        default_size: taken when ``image_size`` is None and the images differ in size.
        shots, fraction, imbalance, label_noise: of the student's images alone, see `compressor.data.scenarios`.
        skip_bad_images: leave out what cannot be read, before the split, and list it; else it is an error.
        pipeline: ``auto`` is ``resident`` up to 1 GiB of decoded pixels.
        workers: processes (streamed) or threads (resident) that decode, >= 0.
        device: where batches are delivered; None is the CPU.
        split_seed: of the validation split and of the scenario.
        crop_pct: of streamed evaluation: the share of each side that the centre crop keeps, in (0, 1]; 1 where all
            images have the run's size already.

    Raises:
        UsageError: an argument is out of range, or asks for more images than some class has.
        InputError: the source is missing or unusable, or holds unreadable images (code ``data.bad_images``).
    """
    if pipeline not in ("auto", "resident", "stream"):
        raise UsageError(f"pipeline must be auto, resident or stream, got {pipeline!r}")
    if not 0 < crop_pct <= 1:
        raise UsageError(f"crop_pct must be in (0, 1], got {crop_pct}")
    scenario = Scenario(shots=shots, fraction=fraction, imbalance=imbalance, label_noise=label_noise)
    name, raw = read_source(source, directory)
    size = _run_size(name, raw, image_size, default_size)
    device = device or torch.device("cpu")
    if _is_resident(raw, size, pipeline):
        kind, prepare = "resident", _resident_maker(size, workers, device)
    else:
        kind, prepare = "stream", _stream_maker(size, workers, device, crop_pct)
    return _assemble(name, raw, size, kind, prepare, val_split, scenario, split_seed, skip_bad_images)


@dataclass(frozen=True)
class _Prepared:
    """A part of the source in the form in which it is delivered; ``rows`` arguments choose among its images.

    Args:
        labels: (M,) of all its images. bad: positions that cannot be read, with names and reasons.
        split, digest: of rows and of labels (M,), which need not be the source's.
    """

    labels: Tensor
    bad: dict[int, str]
    split: Callable[[Tensor, Tensor], Split]
    digest: Callable[[Tensor, Tensor], bytes]
    statistics: Callable[[Tensor], tuple[tuple[float, ...], tuple[float, ...]]]

    @property
    def good(self) -> Tensor:
        """Positions that can be read, rising."""
        readable = torch.ones(len(self.labels), dtype=torch.bool)
        readable[list(self.bad)] = False
        return readable.nonzero().flatten()


def _assemble(
    name: str,
    raw: RawData,
    size: Size,
    kind: str,
    prepare: Callable[[Part], _Prepared],
    val_split: float,
    scenario: Scenario,
    split_seed: int,
    skip_bad_images: bool,
) -> DataSet:
    train, test = prepare(raw.train), prepare(raw.test)
    held_out = None if raw.val is None else prepare(raw.val)
    unreadable = _check_parts(
        name, raw, train, [part for part in (held_out, test) if part is not None], skip_bad_images
    )

    kept, held_rows = train.good, None if held_out is None else held_out.good
    if held_out is None:
        left, held = validation_split(train.labels[kept], val_split, seed=split_seed)
        held_rows = None if held is None else kept[held]
        kept = kept[left]
    val = held_out or train  # where the held-out rows lie
    seen = kept[choose(train.labels[kept], scenario, raw.class_names, seed=split_seed)]
    told = train.labels
    if scenario.label_noise:
        told = flip_labels(train.labels, seen, scenario.label_noise, len(raw.class_names), seed=split_seed)

    mean, std = train.statistics(kept)
    digests = [
        train.digest(kept, train.labels),
        None if held_rows is None else val.digest(held_rows, val.labels),
        test.digest(test.good, test.labels),
    ]
    facts = f"{kind} {size} {raw.class_names}"
    return DataSet(
        name=name,
        class_names=raw.class_names,
        train=train.split(seen, told),
        teacher_train=train.split(kept, train.labels),
        val=None if held_rows is None else val.split(held_rows, val.labels),
        test=test.split(test.good, test.labels),
        image_size=(3, *size),
        mean=mean,
        std=std,
        sha256=combine(facts, [digests[0] if scenario == Scenario() else train.digest(seen, told), *digests]),
        teacher_sha256=combine(facts, digests),
        unreadable=unreadable,
        pipeline=kind,
        scenario=scenario,
        label_noise=LabelNoise(seen, told[seen], train.labels[seen]) if scenario.label_noise else None,
    )


def _check_parts(
    name: str, raw: RawData, train: _Prepared, others: list[_Prepared], skip_bad_images: bool
) -> tuple[str, ...]:
    """Return what cannot be read, where that is allowed; refuse it, or labels that cannot be learned, otherwise."""
    unreadable = (*raw.unreadable, *(line for part in (train, *others) for line in part.bad.values()))
    if unreadable and not skip_bad_images:
        raise bad_images_error(unreadable)
    for part in (train, *others):
        _check_labels(name, part.labels[part.good], raw.class_names, training=part is train)
    return unreadable


def bad_images_error(unreadable: tuple[str, ...]) -> InputError:
    """Make the error that counts unreadable images, each given as ``PATH (reason)``, and shows the first five."""
    count = len(unreadable)
    others = "".join(f"; {line}" for line in unreadable[1:5])
    return InputError(
        f"{count:,} unreadable image{'s' if count > 1 else ''}, first: {unreadable[0]}{others}",
        hint="--skip-bad-images",
        code="data.bad_images",
    )


def _check_labels(name: str, labels: Tensor, class_names: tuple[str, ...], *, training: bool) -> None:
    counts = torch.bincount(labels, minlength=len(class_names))
    if len(labels) == 0:
        raise InputError(f"{name} has no {'training' if training else 'evaluation'} images")
    if training and len(class_names) < 2:
        raise InputError(f"{name} has one class, {class_names[0]!r}; at least two are needed")
    if training and not bool(counts.all()):
        empty = [class_names[label] for label in (counts == 0).nonzero().flatten().tolist()]
        raise InputError(f"{name}: no training image of {_some(empty)}", hint="remove the class, or add images of it")


def _some(words: list[str]) -> str:
    shown = ", ".join(repr(word) for word in words[:5])
    return f"{shown} and {len(words) - 5} more" if len(words) > 5 else shown


def _run_size(name: str, raw: RawData, wanted: int | Size | None, default: int | Size | None) -> Size:
    sizes = {part.images.size for part in raw.parts}
    own = next(iter(sizes)) if len(sizes) == 1 else None
    chosen = wanted if wanted is not None else own if own is not None else default
    if chosen is None:
        raise UsageError(f"the images of {name} differ in size", hint="--img-size 224, or what the student takes")
    size = (chosen, chosen) if isinstance(chosen, int) else (int(chosen[0]), int(chosen[1]))
    if min(size) < 1:
        raise UsageError(f"image size must be >= 1, got {size[0]} x {size[1]}", hint="--img-size 32")
    return size


def _is_resident(raw: RawData, size: Size, pipeline: Pipeline) -> bool:
    images = sum(len(part.images) for part in raw.parts)
    value_bytes = 4 if raw.train.images.normalised else 1
    needed, present = images * 3 * size[0] * size[1] * value_bytes, memory_bytes()
    if pipeline == "resident" and present is not None and needed > present:
        raise UsageError(
            f"{images:,} images of {size[0]} x {size[1]} take {readable_bytes(needed)} of memory, "
            f"this machine has {readable_bytes(present)}",
            hint="--pipeline stream, or --img-size smaller",
        )
    return pipeline == "resident" or (pipeline == "auto" and needed <= RESIDENT_BYTES)


def _resident_maker(size: Size, threads: int, device: torch.device) -> Callable[[Part], _Prepared]:
    def prepare(part: Part) -> _Prepared:
        pixels, reasons = materialise(part.images, size, threads)
        delivered = pixels.to(device)
        return _Prepared(
            labels=part.labels,
            bad={row: f"{part.images.name(row)} ({reason})" for row, reason in reasons.items()},
            split=lambda rows, labels: ResidentSplit(delivered, labels, rows),
            digest=lambda rows, labels: hash_pixels(pixels, labels, rows),
            statistics=lambda rows: _statistics(lambda some: pixels[some], rows),
        )

    return prepare


def _stream_maker(size: Size, workers: int, device: torch.device, crop_pct: float) -> Callable[[Part], _Prepared]:
    def prepare(part: Part) -> _Prepared:
        images = part.images
        kept = 1.0 if images.size == size else crop_pct

        def sampled(rows: Tensor) -> Tensor:
            return torch.stack([fit(read_or_refuse(images, row), size) for row in rows.tolist()])

        def statistics(rows: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
            with quiet_decoder():
                return _statistics(sampled, rows[spaced(len(rows), _STATISTICS_SAMPLE)], chunk=32)

        return _Prepared(
            labels=part.labels,
            bad={},
            split=lambda rows, labels: StreamSplit(
                images, labels, rows, size=size, crop_pct=kept, workers=workers, device=device
            ),
            digest=lambda rows, labels: hash_listing(images, labels, rows),
            statistics=statistics if not images.normalised else lambda rows: _UNCHANGED,
        )

    return prepare


_UNCHANGED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def _statistics(
    read: Callable[[Tensor], Tensor], rows: Tensor, chunk: int = _CHUNK
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel in [0, 1] units, exact: uint8 values are counted, not added up."""
    counts = torch.zeros((3, 256), dtype=torch.float64)
    for start in range(0, len(rows), chunk):
        pixels = read(rows[start : start + chunk])
        if pixels.dtype != torch.uint8:
            return _UNCHANGED
        for channel in range(3):
            counts[channel] += torch.bincount(pixels[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = counts / counts.sum(dim=1, keepdim=True)
    mean = shares @ values
    variance = (shares * (values - mean[:, None]) ** 2).sum(dim=1)
    deviation = torch.where(variance > 0, variance.sqrt(), 1.0)  # a channel that never changes is not divided by 0
    return tuple(mean.tolist()), tuple(deviation.tolist())
