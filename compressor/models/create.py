"""From a name to a network that fits the data: timm's, a plugin's, one's own factory, or a finished run's student."""

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from compressor.errors import InputError, UsageError
from compressor.models.catalogue import ModelName, resolve_name
from compressor.models.folders import SavedNetwork, check_holds, check_readable, read_folder, read_weights_of
from compressor.models.hub import go_offline_if_unreachable, how_to_reach_it
from compressor.registry import ARCHITECTURES, load

logging.getLogger("timm").addHandler(logging.NullHandler())

_LOCAL = "local-dir:"
_REFUSALS = (RuntimeError, TypeError, ValueError, AssertionError, OSError)


@dataclass(frozen=True, kw_only=True)
class BuiltModel:
    """A network and what is needed to build it again.

    Args:
        module: in train mode, float32, on the CPU.
        name: what the user's name meant. arguments: for ``timm.create_model`` beside ``num_classes``.
        requires: packages to import before timm knows the name.
        factory: ``package.module:factory`` for a network of the user's own.
    """

    module: nn.Module
    name: ModelName
    arguments: Mapping[str, Any] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    factory: str | None = None


def create_model(
    name: str, *, num_classes: int | None = None, image_size: int | None = None, pretrained: bool = False
) -> nn.Module:
    """Build a network by any name the command line takes.

    Args:
        num_classes: K; None keeps the architecture's own.
        image_size: pixels a side, for networks that are built for one size; None keeps their own.
        pretrained: with timm's or the folder's weights.

    Returns:
        The network in train mode: images (B, 3, H, W) to logits (B, K).

    Raises:
        UsageError: the name is unknown or ambiguous. InputError: it cannot be built, or its weights cannot be had.
    """
    return build(resolve_name(name), num_classes=num_classes, image_size=image_size, pretrained=pretrained).module


def build(
    name: ModelName, *, num_classes: int | None, image_size: int | None, pretrained: bool, in_channels: int = 3
) -> BuiltModel:
    """Build what a resolved name stands for; arguments and errors as `create_model`."""
    if name.kind == "factory":
        return _from_factory(name, num_classes)
    requires: tuple[str, ...] = ()
    registered = name.registered
    if name.kind == "plugin":
        requires = (_register(registered),)
    saved, tensors = None, None
    if name.kind == "run":
        saved = read_folder(Path(registered))
        registered, requires = f"{_LOCAL}{saved.folder}", _import(saved)
        tensors = read_weights_of(saved.folder)
    elif registered.startswith(_LOCAL):
        check_readable(Path(registered.removeprefix(_LOCAL)))
    arguments: dict[str, Any] = {} if in_channels == 3 else {"in_chans": in_channels}
    if num_classes is not None and name.kind in ("timm", "plugin"):
        arguments["num_classes"] = num_classes
    own_weights = name.kind in ("remote", "run")
    arguments |= _size_argument(registered, image_size, own_weights=own_weights)
    module = _timm_model(registered, name, pretrained=pretrained or own_weights, arguments=arguments)
    if saved is not None and tensors is not None:
        check_holds(module, tensors, saved.folder)
    arguments.pop("num_classes", None)
    return BuiltModel(module=module, name=name, arguments=arguments, requires=requires)


def default_size(name: ModelName) -> int:
    """Return the pixels a side that a network was made for, 224 where nothing says so."""
    settings = _settings_of(name)
    return 224 if settings is None else int(settings.input_size[-1])


def default_crop(name: ModelName) -> float:
    """Return the share of each side that a network's evaluation keeps, 0.875 where nothing says so."""
    settings = _settings_of(name)
    return 0.875 if settings is None else float(settings.crop_pct)


def _settings_of(name: ModelName) -> Any:
    """Return timm's settings of a registered network, None for any other."""
    if name.kind == "plugin":
        _register(name.registered)
    if name.kind not in ("plugin", "timm"):
        return None
    return timm.get_pretrained_cfg(name.registered, allow_unregistered=True)


def pretrained_classes(name: ModelName) -> int | None:
    """Return how many classes timm's published weights of a network tell apart, None where it has none."""
    if name.kind != "timm":
        return None
    settings = timm.get_pretrained_cfg(name.registered, allow_unregistered=True)
    return int(settings.num_classes) if settings is not None and settings.has_weights else None


def _timm_model(registered: str, name: ModelName, *, pretrained: bool, arguments: Mapping[str, Any]) -> nn.Module:
    remote = pretrained and not registered.startswith(_LOCAL)
    if remote:
        go_offline_if_unreachable()
    try:
        module = timm.create_model(registered, pretrained=pretrained, **arguments)
    except Exception as cause:
        # What a stranger's folder describes makes timm raise almost any class; from a name, others are bugs.
        if name.kind not in ("remote", "run") and not isinstance(cause, _REFUSALS):
            raise
        what = "cannot be loaded" if pretrained else "cannot be built"
        hint = how_to_reach_it() if remote else None
        settings = f" with {dict(arguments)}" if arguments else ""
        raise InputError(f"model {name.given!r} {what}{settings}: {_first_line(cause)}", hint=hint) from cause
    assert isinstance(module, nn.Module)
    return module.train()


def _register(registered: str) -> str:
    """Import the package that brings an architecture; return the name of its root, which readers must import."""
    function: Callable[..., Any] = load(ARCHITECTURES, registered, kind="architecture")
    return function.__module__.partition(".")[0]


def _size_argument(registered: str, image_size: int | None, *, own_weights: bool) -> dict[str, Any]:
    """Networks built for one input size (most vision transformers) are told the run's."""
    if image_size is None or own_weights:
        return {}
    settings = timm.get_pretrained_cfg(registered, allow_unregistered=True)
    if settings is None or not settings.fixed_input_size or settings.input_size[-1] == image_size:
        return {}
    return {"img_size": image_size}


def _import(saved: SavedNetwork) -> tuple[str, ...]:
    """Import what a folder asks for, if it is a package that brings architectures here; return the names."""
    for package in saved.requires:
        if package not in {entry.value.partition(".")[0] for entry in _architecture_entries()}:
            raise InputError(f"{saved.folder} asks to import {package!r}, which brings no architecture here")
        import_module(package)
    return saved.requires


def _architecture_entries() -> list[Any]:
    from compressor.models.catalogue import plugin_names

    return [entry for entries in plugin_names().values() for entry in entries]


def _from_factory(name: ModelName, num_classes: int | None) -> BuiltModel:
    place, _, attribute = name.registered.partition(":")
    try:
        factory = getattr(import_module(place), attribute)
    except (ImportError, AttributeError) as cause:
        raise UsageError(
            f"cannot import {name.registered!r}: {_first_line(cause)}",
            hint="PACKAGE.MODULE:FACTORY, importable from where you are (PYTHONPATH=.)",
        ) from cause
    takes = _parameters_of(factory, name.registered)
    arguments = {"num_classes": num_classes} if "num_classes" in takes and num_classes is not None else {}
    try:
        module = factory(**arguments)
    except Exception as cause:
        raise InputError(f"{name.registered!r} raised {type(cause).__name__}: {_first_line(cause)}") from cause
    if not isinstance(module, nn.Module):
        raise InputError(f"{name.registered!r} returned {type(module).__name__}, not a torch.nn.Module")
    return BuiltModel(module=module.train(), name=name, factory=name.registered)


def _parameters_of(factory: Any, name: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError) as cause:
        raise InputError(f"{name!r} is a {type(factory).__name__}, which cannot make a network") from cause


def _first_line(cause: BaseException) -> str:
    text = str(cause).strip()
    return text.splitlines()[0][:200] if text else type(cause).__name__


def parameter_count(module: nn.Module) -> int:
    """Count the trained numbers of a network."""
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds(module: nn.Module, image_size: tuple[int, int, int]) -> int:
    """Count multiply-adds of convolutions, linear layers and attention products for one image of (C, H, W).

    Runs one forward pass of one image in eval mode without gradient; the module's mode is put back.
    """
    from torch.utils.flop_counter import FlopCounterMode

    mode = module.training
    device = next(module.parameters()).device
    module.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, *image_size, device=device))
    finally:
        module.train(mode)
    return int(counter.get_total_flops()) // 2
