"""Runs on few, uneven and wrongly labelled images: what is kept of them, and that the teacher never sees them."""

from pathlib import Path

import pytest
import torch
from tiny_runs import Recorder, tiny_config, tiny_run

from compressor.engine.bank import folder_of
from compressor.engine.inputs import Objects, load
from compressor.engine.runtime import Runtime
from compressor.events import Fact
from compressor.storage import read_tensors

pytestmark = pytest.mark.usefixtures("tiny")
SCENARIO = {"data__fraction": 60, "data__imbalance": 4, "data__label_noise": 0.25, "training__batch_size": 25}


def test_a_scenario_stands_in_heading_result_and_files() -> None:
    recorder = Recorder()
    result = tiny_run("kd", listener=recorder, **SCENARIO)
    told = result.values["data"]
    assert (told["fraction"], told["imbalance"], told["label_noise"], told["shots"]) == (60, 4, 0.25, None)
    labels = read_tensors(Path("run/train_labels.safetensors"))
    flipped = labels["labels"] != labels["clean_labels"]
    assert told["train"] == len(flipped)
    assert told["flipped_labels"] == int(flipped.sum()) == int(0.25 * told["train"] + 0.5)
    counts = torch.bincount(labels["clean_labels"], minlength=10)
    assert int(counts[0]) == 4 * int(counts[-1])
    [data] = [event for event in recorder.of(Fact) if event.title == "Data"]
    words = "60 % of each class, imbalance 4, 25 % wrong labels"
    assert f"{told['train']} for the student ({words})" in data.text
    assert f"Learned from {told['train']} labelled images ({words})" in Path("run/student/README.md").read_text()


def test_an_uneven_run_reports_the_accuracy_of_each_group() -> None:
    result = tiny_run("scratch", data__imbalance=4, training__batch_size=25)
    groups = result.values["data"]["groups"]
    assert groups["rule"] == "thirds"
    seen = read_tensors(Path("run/test.safetensors"))
    predicted, labels = seen["logits"].argmax(1).tolist(), seen["labels"].tolist()
    for name in ("many", "medium", "few"):
        each = []
        for label in groups[name]:
            answers = [given == label for given, true in zip(predicted, labels, strict=True) if true == label]
            each.append(100 * sum(answers) / len(answers))
        assert result.metrics[f"{name}_top1"] == pytest.approx(sum(each) / len(each))


def test_a_run_on_all_images_has_no_groups_and_no_file_of_labels() -> None:
    result = tiny_run("scratch")
    assert "groups" not in result.values["data"]
    assert not {"many_top1", "medium_top1", "few_top1"} & set(result.metrics)
    assert not Path("run/train_labels.safetensors").exists()


def test_every_scenario_learns_from_the_same_teacher() -> None:
    folders = set()
    for changes in ({}, {"data__fraction": 60}, {"data__imbalance": 4}, {"data__label_noise": 0.25}, SCENARIO):
        config = tiny_config("kd", **changes)
        folders.add(folder_of(config, load(config, Runtime(config.runtime, "fp32"), Objects())))
    assert len(folders) == 1
