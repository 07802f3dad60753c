"""The three machine-readable files of a published folder: weights, timm's ``config.json``, and ``compress.json``."""

import importlib
import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compressor import storage
from compressor.errors import InputError
from compressor.publishing.facts import Publication, public_command, public_name, public_settings

WEIGHTS, CONFIG, RECORD, CARD, LICENSES = (
    "model.safetensors",
    "config.json",
    "compress.json",
    "README.md",
    "LICENSE-NOTES.md",
)
ONNX = "model.onnx"  # only where it was asked for
SCHEMA = 1


def write_weights(folder: Path, facts: Publication, tensors: Mapping[str, Tensor]) -> None:
    """Write ``model.safetensors`` with the metadata of the run; equal runs give equal bytes."""
    storage.write_tensors(folder / WEIGHTS, tensors, _metadata(facts))


def write_config(folder: Path, facts: Publication, module: nn.Module) -> None:
    """Write ``config.json``: what `timm.create_model` needs, and ours under ``compress``.

    Raises:
        InputError: ``model_args`` holds something that JSON cannot keep.
    """
    config: dict[str, Any] = {
        "architecture": _without_tag(facts.architecture),
        "num_classes": facts.num_classes,
        "num_features": _integer(getattr(module, "num_features", None)),
        "global_pool": _pooling(module),
        "label_names": list(facts.class_names),
        "model_args": _plain({name: value for name, value in facts.model_args.items() if name != "num_classes"}),
        "pretrained_cfg": _pretrained_cfg(facts, module),
        "compress": _loading(facts),
    }
    storage.write_json(folder / CONFIG, {name: value for name, value in config.items() if value is not None})


def write_record(folder: Path, facts: Publication) -> None:
    """Write ``compress.json``: recipe, seeds, hashes and result."""
    teacher = facts.teacher
    record = {
        "schema": SCHEMA,
        "version": facts.version,
        "student": {
            "architecture": _without_tag(facts.architecture),
            "parameters": sum(parameter.numel() for parameter in facts.module.parameters()),
            **({"inner": facts.inner, "extras": dict(facts.extras)} if facts.extras else {}),
            "started_from": facts.started_from,
            "first_weights": facts.first_weights,
            "metrics": _finite(facts.metrics),
        },
        "teacher": teacher
        and {
            "name": public_name(teacher.name),
            "origin": teacher.origin,
            "sha256": teacher.sha256,
            "hub_id": teacher.hub_id,
            "parameters": teacher.parameters,
            "metrics": _finite(teacher.metrics),
        },
        "scratch": {"metrics": _finite(facts.scratch_metrics)} if facts.scratch_metrics else None,
        "data": {"name": public_name(facts.data.name), "hub_id": facts.data.hub_id, "images": facts.data.images},
        "method": {"name": facts.method, "recipe": facts.recipe, "settings": _plain(public_settings(facts.settings))},
        "seed": facts.seed,
        "seeds": facts.seeds,
        "epochs": facts.epochs,
        "select": facts.select,
        "measured_on": facts.measured_on,
        "config_sha256": facts.config_sha256,
        "command": public_command(facts.command),
        "cost": _finite(facts.cost),
        "hardware": facts.hardware,
        "loading": _loading(facts),
        "files": {name: storage.sha256_file(folder / name) for name in (WEIGHTS, CONFIG)},
    }
    storage.write_json(folder / RECORD, record)


def factory_arguments(factory: str | None, model_args: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Return the keywords that build a network of the user's own: ``model_args``, and ``num_classes`` if it is taken.

    Raises:
        InputError: The factory cannot be imported.
    """
    if factory is None:
        return {}
    place, _, attribute = factory.partition(":")
    try:
        function = getattr(importlib.import_module(place), attribute)
    except (ImportError, AttributeError) as cause:
        raise InputError(f"cannot import {factory}: {cause}") from cause
    arguments: dict[str, Any] = _plain(model_args)
    if "num_classes" in inspect.signature(function).parameters:
        arguments.setdefault("num_classes", num_classes)
    return arguments


def _metadata(facts: Publication) -> dict[str, str]:
    teacher = facts.teacher
    known = {
        "version": facts.version,
        "method": facts.method,
        "recipe": facts.recipe,
        "teacher": public_name(teacher.name) if teacher else None,
        "teacher_sha256": teacher.sha256 if teacher else None,
        "data": public_name(facts.data.name),
        "seed": str(facts.seed),
        "config_sha256": facts.config_sha256,
        "top1": f"{facts.metrics['top1']:.4f}" if "top1" in facts.metrics else None,
    }
    return {"format": "pt", **{f"compress.{name}": value for name, value in known.items() if value is not None}}


def _loading(facts: Publication) -> dict[str, Any]:
    loading: dict[str, Any] = {"version": facts.version, "requires": list(facts.requires)}
    if facts.architecture is None:
        loading["factory"] = facts.factory
    return loading


def _pretrained_cfg(facts: Publication, module: nn.Module) -> dict[str, Any]:
    given = getattr(module, "pretrained_cfg", None) or {}
    channels = facts.input_size[0]
    return {
        "input_size": list(facts.input_size),
        "fixed_input_size": bool(given.get("fixed_input_size", False)),
        "mean": list(facts.mean),
        "std": list(facts.std),
        "interpolation": facts.interpolation,
        "crop_pct": facts.crop_pct,
        "crop_mode": "center",
        "num_classes": facts.num_classes,
        "classifier": _plain(given.get("classifier")),
        # timm folds the first convolution of a model that is not RGB, though it fits: without its name it stays whole.
        "first_conv": _plain(given.get("first_conv")) if channels == 3 else None,
        "custom_load": False,
    }


def _pooling(module: nn.Module) -> str | None:
    for place in (module, getattr(module, "head", None)):
        pooling = getattr(place, "global_pool", None)
        kind = pooling if isinstance(pooling, str) else getattr(pooling, "pool_type", None)
        if isinstance(kind, str) and kind:
            return kind
    return None


def _without_tag(architecture: str | None) -> str | None:
    """Drop the tag of the weights (``resnet10t.c3_in1k``): the weights here are others."""
    return None if architecture is None else architecture.partition(".")[0]


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise InputError(f"{name} is {number}; a result that is not a finite number is not published")
    return dict(numbers)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise InputError(f"{value!r} cannot be published: only plain values can be kept in a file")
