"""`vocl fetch`: weights of backbones, for machines without network."""

from __future__ import annotations

from collections.abc import Sequence

from vocl.config.check import weights_source
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.files import user_path
from vocl.nn.backbones.pretrained import locate_weights
from vocl.ops.narrow import given


def fetch(names: Sequence[str], overrides: Sequence[str]) -> None:
    """Have the weights of the backbones `names` here, else of that which `overrides` choose; prints where."""
    config = composed(overrides)
    if not names and weights_source(config) is None:
        raise UserError(
            f"fetch: backbone {config.backbone['_target_']} needs no weights; "
            "give a timm name, experiment=... or backbone=..."
        )
    root = user_path(config.runtime.weights_root)
    source = () if names else given(weights_source(config))
    for name in names or [config.backbone["name"]]:
        print(locate_weights(name, root, *source))
