"""No secret of the environment gets into a config."""

from __future__ import annotations

import pytest
from running import tiny

from vocl import config as configs
from vocl.errors import UserError
from vocl.secret import refuse_secrets

VALUE = "s3cr3t/with=signs+1"


def put(config, path, value):
    *parents, last = path.split(".")
    for key in parents:
        config = config[key]
    config[last] = value


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("runtime.root", VALUE),
        ("runtime.wandb_entity", f"https://me:{VALUE}@host"),
        ("cluster.kind", f"export WANDB_API_KEY={VALUE}"),
        ("dataset.source.level", VALUE),
    ],
)
def test_a_config_with_a_secret_is_refused_by_its_key(tmp_path, monkeypatch, path, text):
    monkeypatch.setenv("wandb_api_key", VALUE)
    config = tiny(tmp_path)
    put(config, path, text)
    with pytest.raises(UserError) as error:
        configs.check(config)
    said = str(error.value)
    assert said.startswith(f"{path}: ") and "wandb_api_key" in said
    assert VALUE not in said and "\n" not in said


def test_lists_numbers_and_keys_are_looked_at():
    for config in ({"a": [{"b": 1234567890}]}, {"a": {"1234567890": 1}}):
        with pytest.raises(UserError, match="THE_PASSWORD"):
            refuse_secrets(config, {"THE_PASSWORD": "1234567890"})


def test_what_is_no_secret_passes():
    config = {"runtime": {"root": "/home/me/data/runs", "device": "cpu"}}
    refuse_secrets(
        config,
        {"SECRETS_DIR": "/home/me/data", "TOKENIZERS_PARALLELISM": "cpu", "HOME": "/home/me/data/runs"},
    )
