"""The linear probe: how well a frozen student's embedding tells the classes of other data apart."""

import time
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from torch import nn

from compressor.config.settings import RunConfig
from compressor.data.load import load_data
from compressor.data.types import Augmentation, DataSet
from compressor.engine.inputs import loader_workers
from compressor.engine.networks import normalisation_of
from compressor.engine.probe_training import ProbeSettings, ProbeTraining, Trunk, top1_of
from compressor.engine.runtime import Runtime
from compressor.errors import InputError
from compressor.events import Fact, Listener, silent
from compressor.models.catalogue import resolve_name
from compressor.models.create import build


def probe(
    model: str, config: RunConfig, settings: ProbeSettings | None = None, *, listener: Listener = silent
) -> dict[str, Any]:
    """Train a linear classifier on a frozen student's embedding and look at the test images.

    Nothing is held out and nothing is chosen: the classifier of the last epoch counts.

    Args:
        model: a run's or a published folder, or a name that brings weights of its own (``hf-hub:``, ``local-dir:``).
        config: whose data and runtime settings count; ``data.pipeline`` ``auto`` streams where images are augmented.

    Returns:
        ``top1`` in percent, mean over seeds, ``top1_sd`` (None for one seed), ``seeds`` with the accuracy of each, and
        what was probed on what and how; plain JSON values.

    Raises:
        InputError: the network has no weights, does not show its embedding, or the data cannot be used.
    """
    settings = settings or ProbeSettings()
    began = time.monotonic()
    runtime = Runtime(config.runtime)
    net = _trained(model)
    data = _load(config, settings, net, runtime)
    normalisation = normalisation_of(net, data)
    trunk = Trunk(net, normalisation, runtime.device)
    test = trunk.embed_split(data.test)
    width = test.embeddings.shape[1]
    for fact in _heading(model, data, width, settings):
        listener(fact)
    training = ProbeTraining(trunk, data, width, settings, _augmentation(config, settings))
    scores = [top1_of(training.run(seed, listener), test) for seed in range(settings.seeds)]
    return {
        "model": model,
        "data": data.name,
        "data_sha256": data.sha256,
        "classes": data.num_classes,
        "train": len(data.train),
        "test": len(data.test),
        "image_size": list(data.image_size),
        "embedding": width,
        "top1": mean(scores),
        "top1_sd": stdev(scores) if len(scores) > 1 else None,
        "seeds": [{"seed": seed, "top1": score} for seed, score in enumerate(scores)],
        "protocol": {**asdict(settings), "pipeline": data.pipeline, "epoch": "last"},
        "seconds": round(time.monotonic() - began, 3),
    }


def _trained(model: str) -> nn.Module:
    name = resolve_name(f"run:{model}" if Path(model).is_dir() else model)
    if name.kind not in ("run", "remote"):
        raise InputError(
            f"{model} names an untrained network", hint="give a run's or a published folder, or hf-hub:ORG/NAME"
        )
    return build(name, num_classes=None, image_size=None, pretrained=True).module


def _load(config: RunConfig, settings: ProbeSettings, net: nn.Module, runtime: Runtime) -> DataSet:
    wanted = config.data
    own_size = (getattr(net, "pretrained_cfg", None) or {}).get("input_size")
    pipeline = wanted.pipeline
    if pipeline == "auto" and settings.augment:
        pipeline = "stream"  # for random resized crops
    return load_data(
        wanted.source,
        directory=wanted.directory,
        val_split=0,
        image_size=wanted.image_size or (None if own_size is None else int(own_size[-1])),
        default_size=224,
        skip_bad_images=wanted.skip_bad_images,
        pipeline=pipeline,
        workers=loader_workers(config.runtime.workers),
        device=runtime.device,
        crop_pct=1.0,
    )


def _heading(model: str, data: DataSet, width: int, settings: ProbeSettings) -> list[Fact]:
    images = f"{len(data.train):,} train, {len(data.test):,} test   {'x'.join(map(str, data.image_size))}"
    how = "random crops and flips" if settings.augment else "no augmentation"
    return [
        Fact(title="Student", text=f"{model}   frozen, embedding of {width}"),
        Fact(title="Data", text=f"{data.name}   {data.num_classes} classes, {images}"),
        Fact(title="Probe", text=f"linear   lr {settings.lr:g}   {settings.epochs} epochs   {how}"),
    ]


def _augmentation(config: RunConfig, settings: ProbeSettings) -> Augmentation | None:
    wanted = config.data
    changes = Augmentation(crop_padding=wanted.crop_padding, flip=wanted.flip, crop_scale=settings.crop_scale)
    return changes if settings.augment else None
