"""The texts for people: model card and licence notes."""

from pathlib import Path
from typing import Any

from compressor import storage
from compressor.errors import InputError
from compressor.publishing.facts import Publication, check_license, public_command, public_name, public_settings
from compressor.publishing.files import CARD, CONFIG, LICENSES, WEIGHTS, factory_arguments
from compressor.registry import ARCHITECTURES
from compressor.registry import names as registered

NO_LICENSE = "other"
NO_LICENSE_LINE = f"- No licence was stated for these weights; see `{LICENSES}`."
WEIGHTS_LINE = "- These weights: "
TAGS = ("image-classification", "timm", "knowledge-distillation", "compress")
_TITLES = {
    "top1": "top-1, %",
    "top5": "top-5, %",
    "agreement": "agreement with the teacher, %",
    "ece": "calibration error (ECE)",
}


def write_card(folder: Path, facts: Publication) -> None:
    """Write ``README.md``: front matter of the hub, then what a reader must know to use and judge the network."""
    sections = [_intro(facts), _making(facts), _results(facts), _preparation(facts), _loading(facts), _limits(facts)]
    storage.write_text(folder / CARD, f"---\n{_front_matter(facts)}\n---\n\n" + "\n\n".join(sections) + "\n")


def write_license_notes(folder: Path, facts: Publication) -> None:
    """Write ``LICENSE-NOTES.md``: the licences of everything the weights come from, as far as they are known."""
    unknown = "not known; ask its owner before you pass these weights on"
    lines = ["# Licence notes", "", f"{WEIGHTS_LINE}{_license(facts.license)}"]
    if facts.teacher:
        lines.append(f"- Teacher `{_code(public_name(facts.teacher.name))}`: {facts.teacher.license or unknown}")
    lines.append(f"- Data `{_code(public_name(facts.data.name))}`: {facts.data.license or unknown}")
    if facts.started_from:
        lines.append(f"- First weights of the student, `{facts.started_from}`: see their page on the hub")
    lines += ["", "A licence of the teacher or of the data may bind a student that was trained with them."]
    storage.write_text(folder / LICENSES, "\n".join(lines) + "\n")


def restate_license(folder: Path, license: str) -> None:  # noqa: A002  # the card's own word
    """Write another licence into a folder's card and licence notes; all other lines stay as they are.

    Raises:
        InputError: The card has no front matter that is closed, or a text is missing.
    """
    text = storage.read_text(folder / CARD)
    head, closing, body = text.removeprefix("---\n").partition("\n---\n")
    if not text.startswith("---\n") or not closing:
        raise InputError(f"{folder / CARD} has no front matter, so no licence can be written into it")
    lines = [line for line in head.split("\n") if not line.startswith("license:")]
    place = next((at for at, line in enumerate(head.split("\n")) if line.startswith("license:")), len(lines))
    lines.insert(place, f"license: {check_license(license)}")
    body = body.replace(f"\n{NO_LICENSE_LINE}", "")
    storage.write_text(folder / CARD, "---\n" + "\n".join(lines) + closing + body)

    notes = storage.read_text(folder / LICENSES).split("\n")
    kept = [f"{WEIGHTS_LINE}{_license(license)}" if line.startswith(WEIGHTS_LINE) else line for line in notes]
    if kept == notes and f"{WEIGHTS_LINE}{_license(license)}" not in notes:
        raise InputError(f"{folder / LICENSES} has no line for these weights, so no licence can be written into it")
    storage.write_text(folder / LICENSES, "\n".join(kept))


def card_name(facts: Publication) -> str:
    """Return a short name of the student, such as ``resnet10t-kd-flowers``."""
    parts = (student_name(facts), facts.method, public_name(facts.data.name).rpartition("/")[2])
    return "-".join(part for part in parts if part)


def student_name(facts: Publication) -> str:
    """Return the student's own architecture, or the class of a network of the user's own."""
    return facts.inner or facts.architecture or type(facts.module).__name__


def _license(given: str | None) -> str:
    return "not stated by who published them" if given is None else check_license(given)


def _front_matter(facts: Publication) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    data_name = public_name(facts.data.name)
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=facts.data.hub_id or data_name,
            dataset_name=data_name,
            metric_type="accuracy",
            metric_name=f"{title} (mean of {facts.seeds} seeds)" if facts.seeds > 1 else title,
            metric_value=round(facts.metrics[key], 4),
        )
        for key, title in (("top1", "top-1"), ("top5", "top-5"))
        if key in facts.metrics
    ]
    optional: dict[str, Any] = {"eval_results": results, "model_name": card_name(facts)} if results else {}
    card = ModelCardData(
        library_name="timm" if facts.architecture else "pytorch",
        pipeline_tag="image-classification",
        license=check_license(facts.license or NO_LICENSE),
        tags=[tag for tag in TAGS if tag != "timm" or facts.architecture],
        datasets=[facts.data.hub_id] if facts.data.hub_id else None,
        metrics=["accuracy"],
        base_model=facts.started_from or (facts.teacher.hub_id if facts.teacher else None),
        **optional,
    )
    return str(card.to_yaml())


def _intro(facts: Publication) -> str:
    teacher = f" from `{_code(public_name(facts.teacher.name))}`" if facts.teacher else " without a teacher"
    return (
        f"# {_cell(card_name(facts))}\n\n"
        f"An image classifier, `{_code(student_name(facts))}`, with {facts.num_classes} classes. It was trained on "
        f"`{_code(public_name(facts.data.name))}` with `{_code(facts.method)}`{teacher}.{_extras(facts)}"
    )


def _extras(facts: Publication) -> str:
    """Say what was published beside the student, and that every figure counts it."""
    if not facts.extras:
        return ""
    parts = " and ".join(f"{_cell(words)} ({count:,} parameters)" for words, count in facts.extras.items())
    return (
        f"\n\nThe method needs more than the student to classify: {parts} belong to this network. They are part of the "
        "weights, and of all counts and times given for the student."
    )


def _making(facts: Publication) -> str:
    teacher, command = facts.teacher, public_command(facts.command)
    lines = ["## How it was made", ""]
    if teacher:
        weights = f", weights SHA-256 `{teacher.sha256}`" if teacher.sha256 else ""
        origin = f", from [{teacher.hub_id}](https://huggingface.co/{teacher.hub_id})" if teacher.hub_id else ""
        how = f", {_cell(teacher.origin)}" if teacher.origin else ""
        lines.append(f"- Teacher: `{_code(public_name(teacher.name))}`{how}{weights}{origin}")
    if facts.data.images is not None:
        scenario = f" ({_cell(facts.data.scenario)})" if facts.data.scenario else ""
        lines.append(f"- Learned from {facts.data.images:,} labelled images{scenario}")
    settings = ", ".join(f"{name} {value}" for name, value in sorted(public_settings(facts.settings).items()))
    lines.append(f"- Method: `{_code(facts.method)}`" + (f" ({_cell(settings)})" if settings else ""))
    if facts.recipe:
        lines.append(f"- Recipe: `{_code(facts.recipe)}`")
    lines += [
        f"- First weights: {facts.started_from or _cell(facts.first_weights)}",
        f"- Epochs: {facts.epochs}; published: {_cell(facts.select)}",
        f"- Seed: {facts.seed}; the figures are of {_runs(facts)}",
        f"- Settings SHA-256: `{facts.config_sha256}`; compress {facts.version}",
        "",
        "The exact command:" if command == facts.command else "The command, its paths shortened:",
        "",
        _fenced(command, "python" if command.startswith("compressor.") else "sh"),
    ]
    return "\n".join(lines)


def _results(facts: Publication) -> str:
    rows = [("teacher", facts.teacher.parameters, facts.teacher.metrics)] if facts.teacher else []
    rows.append(("student", sum(parameter.numel() for parameter in facts.module.parameters()), facts.metrics))
    if facts.scratch_metrics:
        rows.append(("the same student without a teacher", rows[-1][1], facts.scratch_metrics))
    keys = sorted({key for _, _, metrics in rows for key in metrics}, key=lambda key: ([*_TITLES, key].index(key), key))
    head = ["", "parameters", *(_TITLES.get(key, key) for key in keys)]
    lines = ["## Results", "", _row(head), _row(["---"] * len(head))]
    for name, parameters, metrics in rows:
        figures = [f"{metrics[key]:.4g}" if key in metrics else "-" for key in keys]
        lines.append(_row([name, f"{parameters:,}" if parameters is not None else "-", *figures]))
    lines += ["", f"Measured on {_cell(facts.measured_on)}; {_runs(facts)}."]
    if facts.cost:
        cost = ", ".join(_amount(name, value) for name, value in sorted(facts.cost.items()))
        lines += ["", f"Cost of training: {cost}." + (f" Machine: {_cell(facts.hardware)}." if facts.hardware else "")]
    return "\n".join(lines)


def _amount(name: str, value: float) -> str:
    words = name.replace("_", " ")
    if words.endswith(" bytes"):
        return f"{words.removesuffix(' bytes')} memory {storage.readable_bytes(int(value))}"
    return f"{words} {value:,.6g}"


def _preparation(facts: Publication) -> str:
    channels, height, width = facts.input_size
    kept = "as large as fits" if facts.crop_pct == 1 else f"which keeps {facts.crop_pct:g} of the side"
    cut = f"the centre, {kept}"
    return (
        "## Preparing images\n\n"
        f"{channels} x {height} x {width} pixels in [0, 1]: resized ({facts.interpolation}) and cut to "
        f"{cut}; then minus mean {_numbers(facts.mean)}, divided by standard "
        f"deviation {_numbers(facts.std)}, channel by channel."
    )


def _loading(facts: Publication) -> str:
    requires = "".join(f"import {name}  # {_bringer(name)}\n" for name in facts.requires)
    if facts.architecture:
        code = (
            f"{requires}import timm\n\n"
            'model = timm.create_model("local-dir:PATH_OF_THIS_FOLDER", pretrained=True).eval()\n'
            '# from the hub: timm.create_model("hf-hub:ORGANISATION/NAME", pretrained=True)\n'
            "config = timm.data.resolve_model_data_config(model)\n"
            "transform = timm.data.create_transform(**config, is_training=False)\n"
            "logits = model(transform(image).unsqueeze(0))  # image: a PIL image; logits: (1, classes)\n"
        )
    elif facts.factory:
        place, _, attribute = facts.factory.partition(":")
        arguments = factory_arguments(facts.factory, facts.model_args, facts.num_classes)
        given = ", ".join(f"{name}={value!r}" for name, value in sorted(arguments.items()))
        code = (
            f"{requires}from {place} import {attribute}\nfrom safetensors.torch import load_file\n\n"
            f"model = {attribute}({given}).eval()  # its own code, which is not part of this folder\n"
            f'model.load_state_dict(load_file("{WEIGHTS}"))\n'
        )
    else:
        code = (
            "from safetensors.torch import load_file\n\n"
            f'tensors = load_file("{WEIGHTS}")\n'
            f"# This network ({type(facts.module).__name__}) has no importable name: build it with its own code,\n"
            "# then model.load_state_dict(tensors).\n"
        )
    names = f"The names of the classes, in the order of the logits, are `label_names` in `{CONFIG}`."
    return f"## Loading\n\n{_fenced(code.rstrip(), 'python')}\n\n{names}"


def _bringer(package: str) -> str:
    """Say what an import is for, and what to install for it where that is known."""
    entries = (entry for claims in registered(ARCHITECTURES).values() for entry in claims)
    brought = next((entry.package for entry in entries if entry.value.partition(".")[0] == package), None)
    source = f", pip install {brought.partition(' ')[0]}" if brought is not None else ""
    return f"makes the architecture known to timm{source}"


def _limits(facts: Publication) -> str:
    lines = [
        "## Limits",
        "",
        f"- It knows the {facts.num_classes} classes it was trained on and answers with one of them for any image.",
        "- The figures hold for images like those they were measured on; nothing else was tried.",
        "- What the teacher and the data get wrong or leave out, the student has likely taken over.",
    ]
    if facts.seeds == 1:
        lines.append("- One run was made: how far the figures vary from seed to seed is not known.")
    if facts.license is None:
        lines.append(NO_LICENSE_LINE)
    return "\n".join(lines)


def _runs(facts: Publication) -> str:
    return f"the mean of {facts.seeds} seeds" if facts.seeds > 1 else "one run (n=1: no spread)"


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    """Keep a text in one line and out of the markup."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())


def _fenced(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
