"""`vocl fetch`: weights of backbones, for machines without network."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vocl.config.check import weights_source
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.files import user_path
from vocl.nn.backbones.pretrained import locate_weights
from vocl.ops.narrow import given


def main(arguments: Sequence[str]) -> int:
    """`vocl fetch NAME... | experiment=... | backbone=...`: weights for machines without network.

    Returns the exit code: 0, or 2 for a mistake or a hub that cannot be reached, told in one line.
    """
    names = [a for a in arguments if "=" not in a]
    try:
        config = composed([a for a in arguments if "=" in a])
        if not names and weights_source(config) is None:
            raise UserError(
                f"fetch: backbone {config.backbone['_target_']} needs no weights; "
                "give a timm name, experiment=... or backbone=..."
            )
        root = user_path(config.runtime.weights_root)
        source = () if names else given(weights_source(config))
        for name in names or [config.backbone["name"]]:
            print(locate_weights(name, root, *source))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
