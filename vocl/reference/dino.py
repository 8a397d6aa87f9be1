"""Names of DINO's own weight files (facebookresearch/dino, dino_deitsmall16_pretrain.pth) in this project.

They are a ViT alone, by timm's names. The import is a model that has not been trained: its backbone
is DINO, the rest as a new run of the config's seed begins. So DINO can be evaluated as any model is.
"""

from __future__ import annotations

KEYS = ((r"((?:cls_token|pos_embed|patch_embed\.|blocks\.|norm\.).*)", r"backbone.vit.\1"),)

SPARE = (r"backbone\.vit\.norm\..*",)

COPIED = ((r"teacher\.(backbone\..*)", r"\1"),)

NEW = (r"(?!backbone\.|teacher\.backbone\.).*",)  # what no file holds, and begins as in a new run

DECIDED_BY = (("backbone.", ("backbone",)), ("teacher.backbone.", ("backbone",)))
