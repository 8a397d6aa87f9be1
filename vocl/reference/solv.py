"""Names of the checkpoints that SOLV's code saves (gorkaydemir/SOLV) in this project.

The frozen ViT is not in the file; merging has no weights. 85 tensors at the paper's sizes, all of
which have a place: the release keeps the decoder's map of relative coordinates (`h`) beside slot
attention's, and a norm of the adapted features in the adapter.
"""

from __future__ import annotations

OUTSIDE = ("backbone.",)  # begin as a new run's: pretrained

KEYS = (  # pattern of a name in the file, name here
    (r"s_bind\.slots", "initializer.slots"),
    (r"s_bind\.S_p", "spatial.position"),
    (r"s_bind\.S_s", "spatial.scale"),
    (r"s_bind\.abs_grid", "spatial.grid"),
    (r"s_bind\.initial_mlp\.0\.(.*)", r"adapter.norm.\1"),
    (r"s_bind\.initial_mlp\.1\.(.*)", r"adapter.mlp.0.\1"),
    (r"s_bind\.initial_mlp\.3\.(.*)", r"adapter.mlp.2.\1"),
    (r"s_bind\.initial_mlp\.4\.(.*)", r"spatial.norm_features.\1"),
    (r"s_bind\.Q\.weight", "spatial.to_q.weight"),
    (r"s_bind\.K\.weight", "spatial.to_k.weight"),
    (r"s_bind\.V\.weight", "spatial.to_v.weight"),
    (r"s_bind\.g\.(.*)", r"spatial.relate.\1"),
    (r"s_bind\.f\.(.*)", r"spatial.shared.\1"),
    (r"s_bind\.norm\.(.*)", r"spatial.norm_slots.\1"),
    (r"s_bind\.gru\.(.*)", r"spatial.gru.\1"),
    (r"s_bind\.mlp\.norm\.(.*)", r"spatial.norm_mlp.\1"),
    (r"s_bind\.mlp\.layer1\.(.*)", r"spatial.mlp.0.\1"),
    (r"s_bind\.mlp\.layer2\.(.*)", r"spatial.mlp.2.\1"),
    (r"s_bind\.final_layer\.(.*)", r"spatial.to_slots.\1"),
    (r"s_bind\.h\.(.*)", r"decoder.relate.\1"),
    (r"t_bind\.pos_embed_temporal", "temporal.time"),
    (
        r"t_bind\.slot_transformer\.layers\.(\d+)\.self_attn\.in_proj_(.*)",
        r"temporal.blocks.\1.self_attn.qkv.\2",
    ),
    (r"t_bind\.slot_transformer\.layers\.(\d+)\.(.*)", r"temporal.blocks.\1.\2"),
    (r"pos_dec", "decoder.pos_emb"),
    *((rf"dec\.layer{i + 1}\.(.*)", rf"decoder.mlp.{2 * i}.\1") for i in range(9)),  # with their ReLUs
)

_SIZES = ("model.slot_dim", "dataset.size_px", "backbone")

DECIDED_BY = (  # beginning of a name here, the config keys that decide its existence and shape
    ("initializer.slots", ("model.num_slots", "model.slot_dim")),
    ("adapter.norm", ("backbone",)),
    ("adapter.", ("backbone", "model.adapter.hidden_ratio", "model.slot_dim")),
    ("spatial.position", ("model.num_slots",)),
    ("spatial.scale", ("model.num_slots",)),
    ("spatial.grid", ("dataset.size_px", "backbone")),
    ("spatial.mlp", ("model.slot_dim", "model.spatial.mlp_dim")),
    ("spatial.", ("model.slot_dim",)),
    ("temporal.time", ("dataset.clip_frames", "model.slot_dim")),
    ("temporal.", ("model.slot_dim", "model.temporal.num_blocks", "model.temporal.ffn_dim")),
    ("decoder.pos_emb", _SIZES),
    ("decoder.", ("model.slot_dim", "model.decoder.hidden_dim", "model.decoder.num_layers", "backbone")),
)
