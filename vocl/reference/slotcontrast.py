"""Names of SlotContrast's released checkpoints (annamanasyan/slotcontrast) in this project.

The release wraps each part in a `module`, numbers the layers of an MLP with its LayerNorm as layer
0, and keeps the decoder's position code as (1, 1, n, d). Its 217 tensors map one to one.
"""

from __future__ import annotations

KEYS = (  # pattern of a name in the file, name here
    (r"initializer\.slots", "initializer.slots"),
    (r"encoder\.module\.backbone\.model\.(.*)", r"backbone.vit.\1"),
    (r"encoder\.module\.output_transform\.layers\.0\.(.*)", r"adapter.norm.\1"),
    (r"encoder\.module\.output_transform\.layers\.1\.(.*)", r"adapter.mlp.0.\1"),
    (r"encoder\.module\.output_transform\.layers\.3\.(.*)", r"adapter.mlp.2.\1"),
    (r"processor\.module\.corrector\.mlp\.layers\.0\.(.*)", r"corrector.norm_mlp.\1"),
    (r"processor\.module\.corrector\.mlp\.layers\.1\.(.*)", r"corrector.mlp.0.\1"),
    (r"processor\.module\.corrector\.mlp\.layers\.3\.(.*)", r"corrector.mlp.2.\1"),
    (r"processor\.module\.(corrector|predictor)\.(.*)", r"\1.\2"),
    (r"decoder\.module\.pos_emb", "decoder.pos_emb"),
    (r"decoder\.module\.mlp\.layers\.(\d+)\.(.*)", r"decoder.mlp.\1.\2"),
)

DECIDED_BY = (  # beginning of a name here, the config keys that decide its existence and shape
    ("initializer.slots", ("model.num_slots", "model.slot_dim")),
    ("backbone.", ("backbone",)),
    ("adapter.norm", ("backbone",)),
    ("adapter.", ("backbone", "model.adapter.hidden_ratio", "model.slot_dim")),
    ("corrector.mlp", ("model.slot_dim", "model.corrector.mlp_dim")),
    ("corrector.norm_mlp", ("model.slot_dim", "model.corrector.mlp_dim")),
    ("corrector.", ("model.slot_dim",)),
    ("predictor.", ("model.slot_dim", "model.predictor.num_blocks", "model.predictor.ffn_dim")),
    ("decoder.pos_emb", ("model.slot_dim", "dataset.size_px")),
    ("decoder.", ("model.slot_dim", "model.decoder.hidden_dim", "model.decoder.num_layers", "backbone")),
)
