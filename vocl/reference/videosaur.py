"""Names of VideoSAUR's released checkpoints (andriizadaianchuk/videosaur-*) in this project.

SlotContrast's code grew out of VideoSAUR's: encoder and processor have the same names.
"""

from __future__ import annotations

from vocl.reference import slotcontrast

OWN = ("initializer", "decoder")  # parts whose names differ

KEYS = (
    (r"initializer\.(mean|log_std)", r"initializer.\1"),
    *(pair for pair in slotcontrast.KEYS if not pair[0].startswith(OWN)),
    (r"decoder\.module\.pos_emb", "decoder.pos_emb"),
    (r"decoder\.module\.allocator\.blocks\.(\d+)\.(.*)", r"decoder.allocator.\1.\2"),
    (r"decoder\.module\.renderer\.layers\.(\d+)\.(.*)", r"decoder.renderer.\1.\2"),
    (r"decoder\.module\.output_transform\.(.*)", r"decoder.output.\1"),
    (r"decoder\.module\.((?:to_q|to_k|norm_q|norm_k|norm_memory)\..*)", r"decoder.\1"),
)

_RENDERER = ("model.slot_dim", "model.decoder.hidden_dim", "model.decoder.num_layers")

DECIDED_BY = (
    ("initializer.", ("model.slot_dim", "model.initializer")),
    *(pair for pair in slotcontrast.DECIDED_BY if not pair[0].startswith(OWN)),
    ("decoder.pos_emb", ("model.slot_dim", "dataset.size_px", "backbone")),
    ("decoder.allocator.", ("model.slot_dim", "model.decoder.num_blocks", "model.decoder.ffn_dim")),
    ("decoder.renderer.", _RENDERER),
    ("decoder.output.", ("model.target", "model.decoder.hidden_dim", "dataset.size_px", "backbone")),
    ("decoder.", ("model.slot_dim", "model.decoder")),
)
