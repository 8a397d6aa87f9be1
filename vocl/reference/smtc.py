"""Names of SMTC's released checkpoints (shvdiwnkozbw/SMTC) in this project.

They hold the student alone: the teacher is made a copy of it, as at the start of a training. The
final LayerNorm of the ViT is in the file and plays no part. Numbers of instances and of iterations
stand in no shape. The first release (September 2023) has the same names, but correlates 1024 cells,
which only frames of 512 px have.
"""

from __future__ import annotations

KEYS = (  # pattern of a name in the file, name here
    (r"encoder\.(.*)", r"backbone.vit.\1"),
    (r"transport_proj\.(.*)", r"grouping.correspondence.from_products.\1"),
    (r"mlp_slot\.(\d+)\.(.*)", r"grouping.head.mlp.\1.\2"),
    (r"slot_attention\.slots_mu", "grouping.attention.mean"),
    (r"slot_attention\.slots_sigma", "grouping.attention.log_std"),
    (r"slot_attention\.norm_input\.(.*)", r"grouping.attention.norm_features.\1"),
    (r"slot_attention\.norm_pre_ff\.(.*)", r"grouping.attention.norm_mlp.\1"),
    (r"slot_attention\.project_([qkv])\.(.*)", r"grouping.attention.to_\1.\2"),
    (r"slot_attention\.((?:norm_slots|mlp)\..*)", r"grouping.attention.\1"),
)

SPARE = (r"backbone\.vit\.norm\..*",)  # names here that the config may have no place for

COPIED = ((r"teacher\.(.*)", r"\1"),)  # what no file holds: name here, name here that it is a copy of

DECIDED_BY = (
    ("backbone.", ("backbone",)),
    ("teacher.", ("backbone",)),
    ("grouping.correspondence.from_products", ("backbone", "dataset.size_px", "model.slot_dim")),
    ("grouping.correspondence.", ("model.correspondence.project",)),
    ("grouping.head.", ("backbone", "model.head")),
    ("grouping.attention.mean", ("backbone", "model.num_semantics")),
    ("grouping.attention.log_std", ("backbone", "model.num_semantics")),
    ("grouping.attention.gru", ("model.attention.update",)),
    ("grouping.attention.", ("backbone", "model.attention.mlp_ratio")),
)
