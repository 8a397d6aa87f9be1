"""SlotCurri's released checkpoints (wjun0830/SlotCurri): SlotContrast's names, one for one."""

from vocl.reference.slotcontrast import DECIDED_BY, KEYS

__all__ = ["DECIDED_BY", "KEYS"]
