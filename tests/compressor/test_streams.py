"""Owned randomness: draws belong to their arguments and to nothing else."""

import torch

from compressor.streams import derive, generator


def test_derive_is_the_first_63_bits_of_the_sha256_of_its_arguments() -> None:
    # printf '0/flip/3' | sha256sum, first 16 hexadecimal digits, shifted right by one bit
    assert derive(0, "flip", 3) == 0xFFCA628DBB25DA05 >> 1
    assert derive(7, "crop/plain") == 0xA901728A9AFC4B68 >> 1


def test_every_argument_counts() -> None:
    numbers = {
        derive(0, "a"),
        derive(1, "a"),
        derive(0, "b"),
        derive(0, "a", 0),
        derive(0, "a", 1),
        derive(0, "a", 0, 0),
    }
    assert len(numbers) == 6


def test_numbers_are_not_negative_and_use_the_upper_bits() -> None:
    numbers = [derive(0, "spread", counter) for counter in range(256)]
    assert all(0 <= number < 2**63 for number in numbers)
    assert 90 < sum(number >= 2**62 for number in numbers) < 166  # five standard deviations around one half


def test_equal_arguments_give_equal_draws_and_others_do_not() -> None:
    first, again, other = generator(3, "x", 1), generator(3, "x", 1), generator(3, "x", 2)
    drawn = torch.rand(8, generator=first)
    assert torch.equal(drawn, torch.rand(8, generator=again))
    assert not torch.equal(drawn, torch.rand(8, generator=other))


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    before = torch.get_rng_state()
    torch.rand(4, generator=generator(0, "x"))
    assert torch.equal(before, torch.get_rng_state())
