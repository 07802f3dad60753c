"""Which images come together, in which order, and who takes which part."""

import pytest
import torch

from compressor.engine.batching import Batching
from compressor.errors import UsageError


def batching(count: int = 23, batch_size: int = 5, micro_batches: int = 1, world: int = 1, rank: int = 0) -> Batching:
    return Batching(
        count=count,
        batch_size=batch_size,
        purpose="order/test",
        seed=3,
        micro_batches=micro_batches,
        world=world,
        rank=rank,
    )


def test_epoch_is_a_permutation_cut_into_batches() -> None:
    batches = batching().epoch(0)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert sorted(torch.cat(batches).tolist()) == list(range(23))


def test_epochs_differ_and_asking_again_gives_the_same() -> None:
    one = batching()
    later = torch.cat(one.epoch(7))
    first = torch.cat(one.epoch(0))
    assert not torch.equal(first, later)
    assert torch.equal(later, torch.cat(batching().epoch(7)))


@pytest.mark.parametrize("batch_size", [5, 11])
def test_order_does_not_depend_on_the_batch_size_or_on_how_batches_are_cut(batch_size: int) -> None:
    plain = torch.cat(batching(22, batch_size=batch_size).epoch(2))
    assert torch.equal(torch.cat(batching(22, batch_size=22).epoch(2)), plain)


def test_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    first = torch.cat(batching().epoch(0))
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(torch.cat(batching().epoch(0)), first)
    torch.manual_seed(0)
    batching().epoch(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("world", "micro_batches"), [(2, 2), (2, 4), (4, 4)])
def test_processes_take_together_the_parts_that_one_process_takes_alone(world: int, micro_batches: int) -> None:
    alone = batching(40, 10, micro_batches=micro_batches)
    shared = [batching(40, 10, micro_batches=micro_batches, world=world, rank=rank) for rank in range(world)]
    for number, batch in enumerate(alone.epoch(1)):
        parts = [part for one in shared for part in one.my_parts(one.epoch(1)[number])]
        assert [part.tolist() for part in parts] == [part.tolist() for part in alone.my_parts(batch)]


def test_two_processes_without_micro_batches_take_half_each() -> None:
    halves = [batching(10, 10, world=2, rank=rank) for rank in range(2)]
    batch = halves[0].epoch(0)[0]
    assert halves[0].my_parts(batch)[0].tolist() == batch[:5].tolist()
    assert halves[1].my_parts(batch)[0].tolist() == batch[5:].tolist()


@pytest.mark.parametrize(("count", "micro_batches", "last"), [(21, 1, 5), (22, 1, 2), (23, 2, 5), (24, 2, 4)])
def test_last_batch_is_left_out_when_a_part_would_have_one_image(count: int, micro_batches: int, last: int) -> None:
    assert len(batching(count, 5, micro_batches=micro_batches).epoch(0)[-1]) == last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 4, "batch_size": 5}, r"--batch-size 5 is larger than the training set of 4 images"),
        ({"batch_size": 5, "micro_batches": 3}, r"batches of 5 cannot be cut into 3 parts of at least two"),
        ({"batch_size": 1}, r"batches of 1 cannot be cut into 1 parts of at least two"),
        ({"batch_size": 9, "micro_batches": 3, "world": 2}, r"--micro-batches 3 cannot be shared by 2 processes"),
    ],
)
def test_impossible_batches_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        batching(**arguments)
