"""Classes that mean the same in every video: one confusion matrix, and the IoU of each class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vocl.metrics.contingency import contingency
from vocl.metrics.overlap import iou_matrix


def confusion(truth: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Points of each true and found class over all frames: t h w each -> c c int64; void does not count."""
    return contingency(truth, labels, num_classes, num_classes).sum(0)


def class_iou(table: Tensor) -> np.ndarray:
    """IoU of each class from counts c c; nan for one that is neither true nor found anywhere."""
    present = (table.sum(0) + table.sum(1)) > 0
    return torch.where(present, iou_matrix(table).diagonal(), torch.nan).numpy()
