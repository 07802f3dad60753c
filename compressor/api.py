"""The commands as Python calls: names work as on the command line, and so do one's own networks and datasets."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from compressor.comparison.grid import Comparison
from compressor.comparison.grid import compare as compare_grid
from compressor.config.layers import Layer, checked, resolve
from compressor.config.settings import BASELINE, RunConfig
from compressor.engine.evaluate import latencies, predict
from compressor.engine.history import read_run
from compressor.engine.inputs import Objects, load, object_names
from compressor.engine.networks import normalisation_of
from compressor.engine.normalise import Normalisation
from compressor.engine.results import RunResult
from compressor.engine.runs import distill as distill_run
from compressor.engine.runtime import Runtime
from compressor.errors import InputError
from compressor.events import Listener, silent
from compressor.models.catalogue import resolve_name
from compressor.models.create import build, multiply_adds, parameter_count

Network = str | nn.Module
Data = str | tuple[Any, Any]


def distill(
    *,
    method: str = "sskd",
    teacher: Network = "resnet32x4",
    student: Network = "shufflenetv2",
    data: Data = "digits",
    out: str | Path | None = None,
    fresh: bool = False,
    recipe: str | None = None,
    listener: Listener = silent,
    settings: Mapping[str, Any] | None = None,
) -> RunResult:
    """Train a student under a teacher; the same call again goes on where it stopped, or returns the finished run.

    Args:
        method: name of a distiller, see `compress list methods`.
        teacher, student: names as on the command line, or networks: images (B, C, H, W) to logits (B, K). A teacher
            given as a network must be trained; a student is trained as it is.
        data: a name as on the command line, or a pair of map-style datasets (training, test) of (image, label).
        out: the run's folder; None names it below ``runs/``. fresh: set an earlier run in it aside.
        recipe: name of a recipe. listener: is told `compressor.events`.
        settings: anything ``--set`` takes, by dotted key: ``{"training.epochs": 10, "method.kd_temperature": 2.0}``.

    Returns:
        The finished run; ``result.model`` is the trained student, ``result.metrics["top1"]`` its accuracy in percent.

    Raises:
        CompressorError: what a user can mend, see `compressor.errors`.
    """
    objects = _objects(teacher, student, data)
    config = _config_for(teacher, student, data, settings, recipe, method)({})
    return distill_run(
        object_names(objects, config),
        out=None if out is None else Path(out),
        fresh=fresh,
        listener=listener,
        command=_call(
            "distill", method=method, teacher=teacher, student=student, data=data, recipe=recipe, settings=settings
        ),
        objects=objects,
    )


def compare(
    *,
    methods: Sequence[str] = ("kd", "crd", "sskd"),
    teacher: Network = "resnet32x4",
    student: str = "shufflenetv2",
    data: Data = "digits",
    seeds: int = 3,
    baseline: str = BASELINE,
    out: str | Path | None = None,
    recipe: str | None = None,
    listener: Listener = silent,
    settings: Mapping[str, Any] | None = None,
) -> Comparison:
    """Train every method with every seed under one teacher, and say which is best and how surely.

    Args:
        methods: names; the student without a teacher is always added. student: a name, because each cell starts anew
            (``package.module:factory`` for one's own).
        seeds: 0 .. seeds - 1. baseline: what the others are compared with. Others as `distill`.

    Raises:
        CompressorError: see `distill`; a cell that fails is a row, not an exception.
    """
    objects = _objects(teacher, student, data)
    return compare_grid(
        _config_for(teacher, student, data, settings, recipe, None),
        methods=methods,
        seeds=seeds,
        baseline=baseline,
        out=None if out is None else Path(out),
        listener=listener,
        command=_call(
            "compare",
            methods=list(methods),
            teacher=teacher,
            student=student,
            data=data,
            seeds=seeds,
            recipe=recipe,
            settings=settings,
        ),
        objects=objects,
    )


def publish(
    run: str | Path,
    to: str | Path | None = None,
    *,
    push: str | None = None,
    onnx: bool = False,
    license: str | None = None,  # noqa: A002
) -> Path:
    """Publish a finished run's student: safetensors that plain timm loads, checked in a fresh Python process.

    Args:
        run: folder of a finished run, or of a published student. to: the folder to write; None is ``<run>/student``.
        push: ``organisation/name`` on the hub, as one commit. onnx: also write ``model.onnx``.
        license: of the weights, for the card.

    Returns:
        The published folder.

    Raises:
        InputError: the run is not finished, or what was written does not load again. StorageError: the disk.
    """
    from compressor.publishing.republish import republish

    path = Path(run)
    folder = path
    if not (path / "config.json").is_file():
        if read_run(path).result is None:
            raise InputError(f"{path} is not finished", hint="its command goes on with it; see compress show")
        folder = path / "student"
    return republish(folder, None if to is None else Path(to), push=push, onnx=onnx, license=license)


def evaluate(
    model: str, config: RunConfig, *, weights: str | None = None, teacher: str | None = None
) -> dict[str, Any]:
    """Measure a trained network on the test images of some data.

    Args:
        model: a run's or a published folder, or a name with ``weights`` (a file, or ``pretrained``).
        config: whose data and runtime settings count. teacher: another network to agree with, as ``model``.

    Returns:
        ``top1``, ``top5`` in percent, ``loss`` in nats, ``ece`` in [0, 1], ``latency_ms``, ``parameters``, ``macs``.

    Raises:
        InputError: the weights cannot be used, or the classes are not the data's.
    """
    runtime = Runtime(config.runtime, config.training.precision)
    data = load(config, runtime, Objects())
    net, normalisation = _trained(model, weights, data)
    seen = predict(net.to(runtime.device), data.test, normalisation)
    if seen.logits.shape[1] != data.num_classes:
        raise InputError(f"{model} has {seen.logits.shape[1]} classes, data {data.name} has {data.num_classes}")
    values = {
        "model": model,
        "data": data.name,
        "images": len(seen.labels),
        "top1": seen.top1,
        "top5": seen.top5,
        "loss": seen.loss,
        "ece": seen.calibration_error,
        "parameters": parameter_count(net),
        "macs": multiply_adds(net, data.image_size),
        "latency_ms": asdict(latencies([net], data.image_size)[0]),
    }
    if teacher is not None:
        other, own = _trained(teacher, None, data)
        values["agreement"] = seen.agreement(predict(other.to(runtime.device), data.test, own))
    return values


def _trained(model: str, weights: str | None, data: Any) -> tuple[nn.Module, Normalisation]:
    from compressor.engine.teachers import check_classes, label_names
    from compressor.weights import load_weights

    name = resolve_name(f"run:{model}" if Path(model).is_dir() else model)
    pretrained = weights == "pretrained" or name.kind in ("run", "remote")
    size = data.image_size[-1]
    net = build(
        name, num_classes=None if pretrained else data.num_classes, image_size=size, pretrained=pretrained
    ).module
    if weights not in (None, "pretrained"):
        load_weights(net, Path(str(weights)))
    elif not pretrained:
        raise InputError(f"{model} names an untrained network", hint="give --weights FILE, or a run's folder")
    check_classes(label_names(net), data, model)
    return net, normalisation_of(net, data)


def _call(name: str, **given: Any) -> str:
    """Write a call as it could be typed again; what has no short text is named by its type."""
    plain = (str, int, float, list, Mapping)
    texts = {key: repr(dict(value) if isinstance(value, Mapping) else value) for key, value in given.items()}
    texts |= {key: f"<{type(value).__name__}>" for key, value in given.items() if not isinstance(value, plain)}
    return f"compressor.{name}({', '.join(f'{key}={texts[key]}' for key in given if given[key] is not None)})"


def _objects(teacher: Network, student: Network, data: Data) -> Objects:
    return Objects(
        teacher=teacher if isinstance(teacher, nn.Module) else None,
        student=student if isinstance(student, nn.Module) else None,
        data=None if isinstance(data, str) else data,
    )


def _config_for(
    teacher: Network,
    student: Network,
    data: Data,
    settings: Mapping[str, Any] | None,
    recipe: str | None,
    method: str | None,
) -> Any:
    named: dict[str, Any] = {} if method is None else {"method.name": method}
    places = {"teacher.name": teacher, "student.name": student, "data.source": data}
    for key, value in places.items():
        named[key] = value if isinstance(value, str) else f"python:{type(value).__name__}"
    own = dict(checked(settings or {}, origin="settings"))

    def config_for(overrides: Mapping[str, Any]) -> RunConfig:
        strings = {key: value for key, value in overrides.items() if key not in named or isinstance(value, str)}
        layers = [Layer("arguments", named), Layer("settings", own), Layer("compare", strings)]
        return resolve(layers, recipe=recipe).config

    return config_for
