"""Features fused with their correlation with another frame."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vocl.errors import UserError
from vocl.interface import Grid
from vocl.nn.correspondence import Correspondence

GRID, E = Grid(2, 3), 5


def make(partner: str = "previous", project: bool = False, slot_dim: int = E) -> Correspondence:
    torch.manual_seed(0)
    return Correspondence(E, slot_dim, GRID, partner=partner, project=project)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_formula():
    features, cells = draw(2, 4, 6, E), draw(2, 4, 6, E) + 1
    for project, slot_dim in ((False, E), (True, 7)):
        model = make(project=project, slot_dim=slot_dim)
        found = model(features, cells)
        b, t, n = 1, 2, 4
        products = torch.stack([features[b, t, n] @ cells[b, t, m] for m in range(6)])
        expected = model.from_products.weight @ products + model.from_products.bias
        torch.testing.assert_close(found[b, t, n], expected + model.from_features(features[b, t, n]))
    assert isinstance(make().from_features, torch.nn.Identity)


def test_the_partner_is_the_frame_before_and_the_firsts_is_the_last():
    found = make().partners(torch.tensor([1, 2]), "student", 4)
    assert found.tolist() == [[3, 0, 1, 2]] * 2
    assert make().partners(torch.tensor([1]), "student", 1).tolist() == [[0]]


def test_a_random_partner_is_any_other_frame_and_of_the_key():
    model, key = make("random"), torch.arange(300)
    found = model.partners(key, "student", 4)
    counts = torch.stack([(found[:, t : t + 1] == torch.arange(4)).float().mean(0) for t in range(4)])
    assert torch.equal(counts.diagonal(), torch.zeros(4))
    assert counts.sum() == pytest.approx(4) and counts[counts > 0].min() > 0.2
    assert torch.equal(model.partners(key[5:7], "student", 4), found[5:7])
    assert not torch.equal(model.partners(key, "teacher", 4), found)
    assert model.partners(key[:1], "student", 1).tolist() == [[0]]


def test_a_partner_on_another_grid_is_read_at_the_cells_of_training():
    model, grid = make(), Grid(4, 6)
    features = draw(2, 3, 24, E)
    assert model.cells(draw(2, 3, 6, E), GRID).shape == (2, 3, 6, E)
    found = model.cells(features, grid)
    maps = features.unflatten(2, tuple(grid))
    cells = (
        maps[:, :, ::2, ::2] + maps[:, :, 1::2, ::2] + maps[:, :, ::2, 1::2] + maps[:, :, 1::2, 1::2]
    ) / 4
    torch.testing.assert_close(found, cells.flatten(2, 3))  # half-pixel centres lie between four cells
    assert model(features, found).shape == (2, 3, 24, E)
    odd = model.cells(draw(1, 1, 35, E), Grid(5, 7))
    whole = draw(1, 1, 35, E)[0].unflatten(1, (5, 7)).permute(0, 3, 1, 2)
    expected = F.interpolate(whole, size=(2, 3), mode="bilinear")[0].flatten(1).t()
    torch.testing.assert_close(odd[0, 0], expected)


def test_another_width_needs_a_projection():
    with pytest.raises(UserError, match=r"model\.slot_dim=7: the features are 5 wide; .*project=true"):
        make(slot_dim=7)
