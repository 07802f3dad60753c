"""S1: a disk that is too small, or full at any moment, and a limit on the size of files: told, and nothing is lost."""

import re

import pytest
from fault_client import Child
from fault_mounts import CANNOT
from fault_runs import Stage, compare, distill, environ, facts, student, table
from figures import count, note

ENOUGH, TOO_SMALL = 8192, 1024  # kilobytes; a run of this size asks for 2.8 MB before it begins
ON_SMALL = distill(out="small/run")
MOMENTS = {"start": 0, "run saved 4": 4, "run saved 12": 12, "finishing kd s0": 15}


def on_small_disk(stage: Stage, args: list[str], run: str, kilobytes: int, full_at: str | None) -> Child:
    place = stage.place()
    given = {"args": args, "run": run, "kilobytes": kilobytes, "full_at": full_at}
    child = stage.server.run("fault_mounts:small_disk", place, environ(place), **given)
    if child.status == CANNOT:
        pytest.skip("this user may not mount a disk in memory")
    assert child.status == 0, child.output
    return child


def word(child: Child, about: str) -> str:
    [found] = [words.split()[1] for words in child.said if words.startswith(f"{about} ")]
    return found


@pytest.fixture(scope="module")
def wanted(stage: Stage) -> str:
    place = stage.place()
    assert stage.run(distill(), place).status == 0
    return student(place)


@pytest.mark.parametrize("moment", MOMENTS)
def test_disk_full_at_any_moment_keeps_what_was_saved_and_goes_on_when_there_is_space(
    moment: str, wanted: str, stage: Stage
) -> None:
    child = on_small_disk(stage, ON_SMALL, "run", ENOUGH, moment)
    assert word(child, "first") == "4", child.output
    assert int(word(child, "saved")) == MOMENTS[moment]
    assert "Traceback" not in child.output
    assert re.search(r"error: (disk full|not enough space)", child.output)
    assert "hint:  free space" in child.output
    assert word(child, "second") == "0", child.output
    assert word(child, "sha") == wanted
    note("S1", tried=1, exits=[4])


def test_disk_full_while_the_report_is_written_loses_no_cell(stage: Stage) -> None:
    undisturbed = stage.place()
    assert stage.run(compare(training__epochs=1), undisturbed).status == 0
    assert table(undisturbed)
    args = compare(out="small/comparison", training__epochs=1)
    child = on_small_disk(stage, args, "comparison", ENOUGH, "done kd s0")
    assert word(child, "first") == "4", child.output
    assert word(child, "second") == "0", child.output
    assert sum(words.startswith("done ") for words in child.said) == 2  # no cell was trained again
    note("S1", tried=1, exits=[4])


@pytest.mark.parametrize("kilobytes", [TOO_SMALL, 2048])
def test_disk_that_can_never_hold_the_run_is_told_before_any_training(
    kilobytes: int, wanted: str, stage: Stage
) -> None:
    child = on_small_disk(stage, ON_SMALL, "run", kilobytes, None)
    assert word(child, "first") == "4", child.output
    first = child.said[: child.said.index("first 4")]
    assert not [words for words in first if "student" in words]
    assert "not enough space for small/run" in child.output
    assert word(child, "sha") == wanted
    note("S1", tried=1, exits=[4])


@pytest.mark.parametrize("kilobytes", [3072, 4096])
def test_disk_that_just_holds_the_run_is_enough(kilobytes: int, stage: Stage) -> None:
    child = on_small_disk(stage, ON_SMALL, "run", kilobytes, None)
    assert word(child, "first") == "0", child.output
    note("S1", tried=1, exits=[0])


def test_limit_on_the_size_of_a_file_is_told_at_any_size(stage: Stage) -> None:
    undisturbed = stage.place()
    assert stage.run(distill(), undisturbed).status == 0
    wanted, exits = facts(undisturbed), []
    sizes = count(7, 20)
    for number in range(sizes):
        place, limit = stage.place(), int(200 * 4000 ** (number / (sizes - 1)))  # 200 bytes to 800 kB
        limited = stage.server.run("fault_mounts:limited_files", place, environ(place), args=distill(), limit=limit)
        story = f"limit {limit}: {limited.output}"
        exits.append(limited.status)
        assert limited.status in (0, 4), story
        if limited.status == 4 and limit > 5000:  # the test's own log is cut by the limit too
            assert "file size limit" in limited.output, story
        assert stage.run(distill(), place).status == 0, story
        assert facts(place) == wanted, story
    assert exits.count(4) >= sizes // 2
    note("S1", tried=sizes, exits=exits)
