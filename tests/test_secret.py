"""No secret of the environment gets into a config."""

from __future__ import annotations

import pytest
from running import tiny

from vocl.config import folders
from vocl.config.check import check
from vocl.config.secret import refuse_secrets
from vocl.errors import UserError

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
    config = tiny(tmp_path).content
    put(config, path, text)
    with pytest.raises(UserError) as error:
        check(config)
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


# ------------------------------------------------------------------------- values of the environment

WORDY, RANDOM = "horse-staple", "a1b2c3d4e5f6g7h8"


@pytest.mark.parametrize(
    "text",
    [
        "The password is {}.",
        "mysql -p{} db",
        "mysql -u me -p{}",
        "https://host/{}/file",
        "https://me:{}@host",
        "echo '{}'",
        'echo "{}";',
        "({})",
        "{}",
        "A={},B=2",
    ],
)
@pytest.mark.parametrize("value", [WORDY, RANDOM])
def test_a_value_is_found_wherever_it_stands(text: str, value: str):
    with pytest.raises(UserError, match="DB_PASS") as error:
        refuse_secrets({"cluster": {"setup": ["true", text.format(value)]}}, {"DB_PASS": value})
    assert str(error.value).startswith("cluster.setup[1]: ") and value not in str(error.value)


def test_a_value_is_found_as_a_url_spells_it():
    with pytest.raises(UserError, match="DB_PASS"):
        refuse_secrets({"a": "https://me:p%40ss%2Fw0rd@host"}, {"DB_PASS": "p@ss/w0rd"})


@pytest.mark.parametrize(
    "name",
    [
        *("DB_PASS", "SSHPASS", "MYSQL_PWD", "PGPASSWORD", "SU_PASSWD", "KEY_PASSPHRASE", "db_password"),
        *("WANDB_API_KEY", "OPENAI_KEY_2", "AWS_SECRET_ACCESS_KEY", "AWS_CREDENTIALS", "wandbApiKey"),
        *("HF_TOKEN", "GITHUB_TOKEN_RO", "APP_SECRET"),
    ],
)
def test_names_of_secrets(name: str):
    with pytest.raises(UserError, match=name):
        refuse_secrets({"a": f"x {WORDY}"}, {name: WORDY})


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("PWD", "/scratch/vocl-runs", "/scratch/vocl-runs"),
        ("OLDPWD", "/scratch/vocl-runs", "/scratch/vocl-runs"),
        ("HOME", "/home/me-and-you", "/home/me-and-you"),
        ("TOKENIZERS_PARALLELISM", "disabled-now", "disabled-now"),
        ("SECRETS_DIR", "/home/me/data", "/home/me/data/runs"),
        ("SECRETS_DIR", "/home/me/data", "/home/me/data"),
        ("SSH_PUBLIC_KEY", "AAAAB3NzaC1yc2E", "AAAAB3NzaC1yc2E"),
        ("DB_PASS", "true", "true"),
        ("DB_PASS", "1", "1"),
        ("DB_PASS", "postgres", "my_postgres2 postgresql a-postgres postgres-15 postgres.conf"),
        ("GOOGLE_APPLICATION_CREDENTIALS", __file__, __file__),
        ("X_KEY", "/home/me/data", "/home/me/data/runs"),
    ],
)
def test_what_only_looks_like_the_value_of_a_secret(name: str, value: str, text: str):
    refuse_secrets({"runtime": {"root": text}}, {name: value})


# ------------------------------------------------------------------------------------ spelled out

HEX = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "line",
    [
        f"export WANDB_API_KEY={HEX}",
        "export X_TOKEN=abcdef12",
        "export DB_PASS='hunter2'",
        "export A=1; export MY_SECRET='correct horse battery'",
        "export DB_PASSWORD_PROD=hunter2x",
        "export PGPASSWORD=hunter2; psql",
        "export T_TOKEN=${T_TOKEN:-abc123secret}",
        "export T_TOKEN=${A:-${B:-abc123secret}}",
        "export AWS_SECRET_ACCESS_KEY=/x8FqAbcDEFghi123456789012345678901234ab",
        "ALL,WANDB_API_KEY=abcdefgh0123",
        "apptainer exec --env WANDB_API_KEY=abcdefgh0123 x.sif",
        "mysql -pSECRET db",
        "mysql -u me -ps3cr3t -h host",
        "mysqldump --password=hunter2 db",
        "sshpass -p hunter2 ssh host",
        "7z x -phunter2 a.7z",
        "unzip -P hunter2 a.zip",
        "setup --api-key abcdefgh0123",
        "curl -u me:hunter2 https://x",
        "curl -H 'Authorization: Bearer abcdefgh' https://x",
        "X=$(curl -H 'X-Api-Key: abcdefgh0123' https://x)",
        "git clone https://user:pass@host/x",
        "pip install git+https://ghp_0123456789012345678901234567890123ab@github.com/a/b",
        f"wandb login --relogin {HEX}",
        "hf auth login --token hf_abcdefghijklmnopqrstuvwxyzabcdefgh",
        "echo 'machine api.wandb.ai login user password 0123456789abcdef' >> ~/.netrc",
        "echo '-----BEGIN OPENSSH PRIVATE KEY-----' > key",
    ],
)
def test_a_line_that_spells_a_secret_is_refused(line: str):
    with pytest.raises(UserError) as error:
        refuse_secrets({"cluster": {"setup": ["module load cuda", line]}}, {})
    said = str(error.value)
    assert said.startswith("cluster.setup[1]: holds ") and "\n" not in said
    for secret in (HEX, "abc", "hunter2", "s3cr3t", "SECRET ", "x8Fq", "horse", "user:pass", "0123"):
        assert secret not in said


@pytest.mark.parametrize(
    "line",
    [
        "export WANDB_API_KEY=$WANDB_API_KEY",
        'export WANDB_API_KEY="$(cat ~/.wandb_key)"',
        "export WANDB_API_KEY=$(< ~/.wandb_key)",
        "export WANDB_API_KEY=`cat ~/.wandb_key`",
        "export X_TOKEN=${X_TOKEN:?set it first}",
        "export X_TOKEN=${OTHER_TOKEN:-$THIRD_TOKEN}",
        "export X_TOKEN=${A:-${B:-}}",
        "export GOOGLE_APPLICATION_CREDENTIALS=/scratch/me/key.json",
        "export GOOGLE_APPLICATION_CREDENTIALS=$HOME/key.json",
        f"export X_SECRET={__file__}",
        "export SSH_KEY=~/.ssh/id_ed25519",
        "export HF_TOKEN_PATH=abcdefgh0123",
        "export TOKENIZERS_PARALLELISM=disabled",
        "export NUM_PASS=2 TWO_PASS=true USE_TOKEN=1",
        "export PWD=abcdefgh",
        "export WANDB_API_KEY=...",
        "export SORT_KEY=filename",
        "source ~/.secrets; unset WANDB_API_KEY",
        "mysql -p$PASS db",
        "mysql -p db_of_mine",
        "mysql -P 3306 --protocol=tcp",
        "mkdir -p/scratch/me && ssh -p2222 host && srun -pgpu true",
        "apptainer exec --nv docker://nvcr.io/nvidia/pytorch:24.01-py3",
        "docker://pytorch:2.1@sha256:0123456789abcdef",
        "git clone https://oauth2:$TOKEN@host/x",
        "https://host:8080/path git@github.com:me/x.git",
        f"git checkout {HEX}",
        "wandb login $WANDB_API_KEY; wandb login --relogin",
        'curl -u "$USER:$PASS" https://x',
        "vocl.nn.keys.token_drop",
    ],
)
def test_a_line_that_refers_to_a_secret_passes(line: str):
    refuse_secrets({"cluster": {"setup": [line], "container": line, "sbatch": {"export": line}}}, {})


def test_no_shipped_config_is_refused(tmp_path):
    check(tiny(tmp_path).content)
    lines = [line for path in folders.CONF.rglob("*.yaml") for line in path.read_text().splitlines()]
    refuse_secrets({"lines": lines}, {})
