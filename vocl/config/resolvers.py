"""Arithmetic in a config, as `${name:arguments}`; the saved config holds the results."""


def slot_count(k_init: int, sigma: int, stage: int) -> int:
    """Slots of stage m = 0, 1, ...: k_init + m sigma + 3 m (m - 1) / 2 (SlotCurri, sec. 3.3)."""
    return k_init + stage * sigma + 3 * stage * (stage - 1) // 2
