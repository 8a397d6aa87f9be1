"""Draws from keys and tags: the published generator, what a draw depends on, and where it is made."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vocl.dryrun.fakes import fake_tensors
from vocl.ops import random
from vocl.ops.philox import philox
from vocl.ops.random import dropout, normal, subkeys, subsets, uniform

DRAWS = (normal, uniform)
PUBLISHED = [  # Random123's known answers for philox4x32-10: counter, key, result
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]

NORMAL = ["0x1.7f568ap+0", "0x1.b82e30p-1", "0x1.307642p+1", "-0x1.d8c142p-2", "0x1.bb1006p-1"]
UNIFORM = ["0x1.cd3ea0p-3", "0x1.2a7864p-1", "0x1.b30ba0p-5", "0x1.e0c188p-2", "0x1.246ee8p-1"]
SUBKEYS = [1530153001487422594, 8660530342607216099, 7422115471794074721]
SUM = -105545590598695203


def words(text: str) -> torch.Tensor:
    return torch.tensor([int(word, 16) for word in text.split()])


def test_the_generator_gives_the_published_answers() -> None:
    for counter, key, result in PUBLISHED:
        even, odd = philox(words(counter)[0::2], words(counter)[1::2], words(key))
        assert torch.equal(even, words(result)[0::2]) and torch.equal(odd, words(result)[1::2])


def test_counters_and_keys_broadcast() -> None:
    counters, keys = (torch.stack([words(row[i]) for row in PUBLISHED], dim=1) for i in (0, 1))
    even, odd = philox(counters[0::2, None], counters[1::2, None], keys.unsqueeze(-1))
    results = torch.stack([words(row[2]) for row in PUBLISHED], dim=1)
    assert torch.equal(even.diagonal(dim1=1, dim2=2), results[0::2])
    assert torch.equal(odd.diagonal(dim1=1, dim2=2), results[1::2])


def test_a_uniform_draw_is_the_upper_bits_of_the_words_of_key_place_and_tag() -> None:
    key, tag = 0x123456789ABCDEF0, random.seed_of("tag")
    block = torch.tensor([2, 0, tag & 0xFFFFFFFF, tag >> 32])
    even, odd = philox(block[0::2], block[1::2], words("9abcdef0 12345678"))
    expected = torch.stack([even, odd], dim=1).flatten() >> 8
    found = uniform(torch.tensor([key]), "tag", (3, 4))[0, 2]
    assert torch.equal((found.double() * 2**24).long(), expected)


def test_bits_are_what_they_were_on_the_machine_that_wrote_this() -> None:
    """One bit that differs is another experiment: another machine, device or version of torch has none."""
    key = torch.tensor([1, 2**62 + 5])
    assert normal(key, "bits", (5,))[1].tolist() == [float.fromhex(x) for x in NORMAL]
    assert uniform(key, "bits", (5,))[1].tolist() == [float.fromhex(x) for x in UNIFORM]
    assert subkeys(key, "bits", 3)[1].tolist() == SUBKEYS
    weights = torch.arange(1, 100_001)  # of many values, the sum of their bits
    bits = normal(key[:1], "bits", (100_000,)).view(torch.int32)[0].long()
    assert int((bits * weights).sum()) == SUM


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_bits() -> None:
    key = torch.arange(16) * 7919
    for draw in DRAWS:
        assert torch.equal(draw(key.cuda(), "gpu", (100_003,)).cpu(), draw(key, "gpu", (100_003,)))
    assert torch.equal(subkeys(key.cuda(), "gpu", 9).cpu(), subkeys(key, "gpu", 9))
    assert torch.equal(subsets(key.cuda(), "gpu", 50, 500, 999).cpu(), subsets(key, "gpu", 50, 500, 999))


@pytest.mark.parametrize("draw", DRAWS)
def test_a_row_is_a_function_of_its_key_and_the_tag(draw) -> None:
    key = torch.tensor([3, 10**18, 3, 2**33 + 3])
    found = draw(key, "a", (5, 7))
    assert found.shape == (4, 5, 7) and found.dtype == torch.float32
    assert torch.equal(found[0], found[2])
    assert torch.equal(found, torch.cat([draw(part, "a", (5, 7)) for part in key.split([1, 3])]))
    torch.manual_seed(7)
    assert torch.equal(found, draw(key, "a", (5, 7)))
    others = [found[0], found[1], found[3], draw(key, "b", (5, 7))[0]]
    assert len({value for other in others for value in other.flatten().tolist()}) == 4 * 35


@pytest.mark.parametrize("draw", [*DRAWS, lambda key, tag, shape: subkeys(key, tag, *shape)])
def test_a_longer_draw_begins_with_a_shorter_ones_values(draw) -> None:
    key = torch.tensor([3, 4])
    whole = draw(key, "a", (4096,))
    for size in (0, 1, 2, 3, 5, 64, 1001):
        assert torch.equal(draw(key, "a", (size,)), whole[:, :size])
    assert torch.equal(draw(key[:0], "a", (3,)), whole[:0, :3])


@pytest.mark.parametrize("draw", DRAWS)
def test_shapes_of_a_row_are_of_any_number_of_dimensions(draw) -> None:
    key = torch.arange(3)
    assert torch.equal(draw(key, "a", (2, 3, 4)).flatten(1), draw(key, "a", (24,)))
    assert torch.equal(draw(key, "a", ()), draw(key, "a", (1,))[:, 0])


@pytest.mark.parametrize("draw", DRAWS)
def test_what_is_drawn_at_once_changes_nothing(draw, monkeypatch) -> None:
    key = torch.arange(5)
    whole = draw(key, "a", (300,))
    for chunk in (1, 7, 16, 75, 80, 400):
        monkeypatch.setattr(random, "CHUNK_ON_CPU", chunk)
        assert torch.equal(draw(key, "a", (300,)), whole)


def test_uniform_noise_is_uniform() -> None:
    x = uniform(torch.arange(40), "a", (10_000,))
    assert x.min() >= 0 and x.max() < 1
    assert torch.equal(x * 2**24, (x * 2**24).round())
    share = (x * 20).long().flatten().bincount(minlength=20) / x.numel()
    assert (share - 0.05).abs().max() < 0.002
    assert (x.mean(1) - 0.5).abs().max() < 0.015 and abs(x.var().item() - 1 / 12) < 0.001


def test_normal_noise_is_normal() -> None:
    x = normal(torch.arange(40), "a", (10_000,)).double()
    assert abs(x.mean()) < 0.008 and abs(x.var() - 1) < 0.012
    assert abs((x**3).mean()) < 0.03 and abs((x**4).mean() - 3) < 0.08
    levels = torch.linspace(-3.5, 3.5, 29, dtype=torch.float64)
    below = torch.stack([(x < level).double().mean() for level in levels])
    assert (below - torch.special.ndtr(levels)).abs().max() < 0.004


def test_normal_noise_is_box_and_mullers_transform_as_exact_as_float32_is() -> None:
    even, odd = torch.randint(0, 2**32, (2, 2, 1, 50_000), generator=torch.Generator().manual_seed(0))
    even[0, 0, :3], odd[0, 0, :3] = torch.tensor([0, 2**32 - 1, 1]), torch.tensor([0, 2**31, 2**32 - 1])
    radius = (-2 * ((even + 1).double() / 2**32).log()).sqrt()
    angle = (odd.double() / 2**32 - 0.5) * 2 * math.pi
    found = random._normals(even, odd).view(-1, 2, 2).transpose(0, 1)
    expected = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).squeeze(1)
    torch.testing.assert_close(found.double(), expected, rtol=2**-23, atol=2e-8)
    assert found.isfinite().all()


def test_rows_elements_and_tags_are_not_correlated() -> None:
    a, b = (normal(torch.arange(200), tag, (200,)).double() for tag in "ab")
    several = [(a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1]), (a[:, 2:], a[:, :-2]), (a, a.t())]
    for x, y in several:
        assert abs((x * y).mean()) < 0.03


def test_keys_of_parts_are_keys() -> None:
    key = torch.tensor([3, 4])
    found = subkeys(key, "frame", 100)
    assert found.shape == (2, 100) and found.dtype == torch.int64 and found.min() >= 0
    assert found.unique().numel() == 200
    assert abs((found > 2**62).double().mean() - 0.5) < 0.15
    x = normal(found.flatten(), "a", (100,))
    assert abs(x.mean()) < 0.03 and x.unique().numel() > 19_900


def test_dropout_drops_the_rate_scales_and_takes_rows_from_their_clips_key() -> None:
    x, key = torch.ones(6, 50, 40), torch.tensor([5, 6, 7])
    found = dropout(x, key, "drop", 0.1)
    assert abs((found == 0).float().mean() - 0.1) < 0.02
    kept = 1 - round(0.1 * 2**16) / 2**16
    torch.testing.assert_close(found[found != 0].unique(), torch.tensor([1 / kept]))
    assert torch.equal(found[2:4], dropout(x[:2], key[1:2], "drop", 0.1))
    assert dropout(x, None, "drop", 0.1) is x and dropout(x, key, "drop", 0) is x
    assert dropout(x.bfloat16(), key, "drop", 0.1).dtype == torch.bfloat16


class Crossings(TorchDispatchMode):
    """Collects operations whose tensors lie on more than one device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        leaves = torch.utils._pytree.tree_leaves((args, kwargs, out))
        if len({leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}) > 1:
            self.found.append(str(func))
        return out


def test_nothing_is_read_by_the_host_and_nothing_copied_to_the_device() -> None:
    """On tensors without values, as of a GPU: what reads one raises."""
    with fake_tensors(), Crossings() as crossings:
        key = torch.empty(4, dtype=torch.int64, device="cuda")
        x = torch.empty(8, 3, device="cuda", dtype=torch.bfloat16)
        results = [draw(key, "a", (5, 7)) for draw in DRAWS]
        results += [subkeys(key, "a", 3), subsets(key, "a", 2, 3, 9), dropout(x, key, "a", 0.1)]
    assert all(result.device.type == "cuda" for result in results)
    assert not crossings.found


def test_what_reads_or_copies_is_noticed() -> None:
    with fake_tensors(), Crossings() as crossings:
        key = torch.empty(4, dtype=torch.int64, device="cuda")
        with pytest.raises(Exception, match="_local_scalar_dense"):
            key.tolist()
        key.cpu()
    assert crossings.found
