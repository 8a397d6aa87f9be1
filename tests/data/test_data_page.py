"""What docs/data.md shows is what the checks accept."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import yaml

from vocl.config.check import check
from vocl.config.compose import composed

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.S)


def over(base, changes):
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict) and "_target_" not in value
        base[key] = over(base[key], value) if both else value
    return base


@pytest.mark.parametrize("block", BLOCKS)
def test_the_yaml_of_the_page_is_a_config(block):
    config, changes = composed([]).content, yaml.safe_load(block)
    stages = changes.get("curriculum", {}).get("stages", {})
    whole = config["curriculum"]["stages"]["all"]
    if stages:
        config["curriculum"]["stages"] = {name: copy.deepcopy(whole) for name in stages}
    checked = check(over(config, changes))
    assert checked.run_id != composed([]).run_id
    for line in re.findall(r"#\s*(\{_target_: .*?\})", block):
        config["dataset"]["sampling"] = yaml.safe_load(line)
        check(config)


def test_the_schedule_of_a_weight_that_the_page_shows():
    override = re.search(r"`loss\.NAME\.weight=(\{.*?\})`", PAGE)[1]
    composed([f"loss.slot_contrast.weight={override}"])
