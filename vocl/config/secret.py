"""Keeping secrets out of configs, and so out of records, snapshots and job scripts. Imports no torch.

Two kinds are told: the value of an environment variable that is named like a secret, wherever it
stands; and a secret that a shell line spells out, as the value of a variable or option that is named
like one, glued to `-p`, within a URL. A reference such as `$NAME` or `$(cat FILE)` is none.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vocl.errors import UserError

MIN_LENGTH = 8  # of a variable's value: shorter ones (TOKENIZERS_PARALLELISM=false) may stand anywhere
RANDOM_LENGTH = 12  # as long, with letters and digits, it stands nowhere by chance
MIN_SPELLED = 6  # of a value that nothing but its name betrays
MIN_KEY = 16  # of one whose name says KEY and no more

# ------------------------------------------------------------------------------------------ names

WORD = re.compile(r"[A-Z0-9]*(KEY|TOKEN|SECRET|CREDENTIAL|PASSWORD|PASSWD|PASSPHRASE|PASS|PWD)S?\d*")
PLAIN_WORD = re.compile(r"(SECRET|CREDENTIAL|PASSWORD|PASSWD|PASSPHRASE)S?")  # that means nothing else
NO_SECRETS = ("PWD", "OLDPWD")
PUBLIC = {"PUBLIC", "PUBKEY"}
ABOUT = re.compile(  # a name that ends so says something of a secret
    r"DIR|DIRECTORY|FOLDER|PATH|FILE|NAME|TYPE|BACKEND|MODE|URL|HOST|PORT|SIZE|LEN|LENGTH|COUNT"
)
STRONG = ("API", "ACCESS", "SECRET", "PRIVATE", "AUTH")  # kinds of key that are no key of a table


def is_secret_name(name: str) -> bool:
    """Whether a variable of that name may have a secret for its value: WANDB_API_KEY, DB_PASS, SSHPASS;
    not PWD, SECRETS_DIR, PUBLIC_KEY, TOKENIZERS_PARALLELISM."""
    words = _words(name)
    if not words or name in NO_SECRETS or ABOUT.fullmatch(words[-1]) or PUBLIC & set(words):
        return False
    return any(WORD.fullmatch(word) for word in words)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^A-Z0-9]+", name.upper()) if word]


# ----------------------------------------------------------------------------------------- refuse


def refuse_secrets(config: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> None:
    """Raise `UserError` where a value of `config` holds the value of an environment variable that is
    named like a secret, or spells out a secret. The message has the key, not the value."""
    known = _known(tuple(environment.items()))
    for path, text, is_key in _texts(config, ""):
        if known is not None and (found := known[0].search(text)):
            raise UserError(
                f"{path}: holds the value of the environment variable {known[1][found.group()]}; secrets "
                "stay out of configs: leave it in the environment or in ~/.netrc"
            )
        if not is_key and (what := spelled(text)):
            raise UserError(
                f"{path}: holds {what}; secrets stay out of configs: refer to it ($NAME, $(cat FILE)), "
                "or leave it to cluster.env_file or ~/.netrc"
            )


def _texts(node: Any, path: str) -> Iterator[tuple[str, str, bool]]:
    """(path, text, whether it is a key) of every value and every key below `node`."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield path or "a key of the config", str(key), True
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _texts(value, f"{path}[{index}]")
    elif node is not None and not isinstance(node, bool):
        yield path, str(node), False


# ------------------------------------------------------------------------- values of the environment

FOLDER = re.compile(r"[~.]{0,2}/[\w./ -]*")


@functools.lru_cache(maxsize=4)
def _known(environment: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], dict[str, str]] | None:
    """A pattern that finds the secrets of an environment, and the variable of each spelling."""
    names = {value: name for name, value in environment if is_secret_name(name) and _is_telling(value)}
    names |= {quote(value, safe=""): name for value, name in names.items()}  # as in a URL
    spellings = sorted(names, key=len, reverse=True)
    return (re.compile("|".join(map(_where_meant, spellings))), names) if names else None


def _is_telling(value: str) -> bool:
    """Whether a value may be a secret, and stands in a config by no chance."""
    return len(value) >= MIN_LENGTH and not _exists(value)


def _exists(text: str) -> bool:
    """Whether `text` is the path of a file."""
    with suppress(OSError, ValueError, RuntimeError):
        return text.startswith(("/", "~", ".")) and Path(text).expanduser().exists()
    return False


def _where_meant(value: str) -> str:
    """A pattern for `value` that passes over other words which it is a part of."""
    text = re.escape(value)
    if FOLDER.fullmatch(value):  # the paths below it are not forbidden
        return rf"(?<![\w.-]){text}(?![\w/.-])"
    if len(value) >= RANDOM_LENGTH and re.search(r"\d", value) and re.search(r"[A-Za-z]", value):
        return text
    return rf"(?:(?<![\w.-])|(?<=-[A-Za-z])){text}(?![\w-]|\.\w)"


# ------------------------------------------------------------------------------------ spelled out

REFERENCE = "\0"  # stands for what a shell would put there
VALUE = r"""(?P<value>"[^"]*"|'[^']*'|[^\s;&|<>()"',]+)"""
HINT = re.compile(  # without it there is nothing to look for
    r"key|token|secret|credential|pass|pwd|authoriz|://|\s-[pu]|login|gh._|hf_|glpat|akia|xox", re.IGNORECASE
)
ASSIGNED = re.compile(rf"(?<![\w$])(?P<name>[A-Za-z_][\w-]*)[\"']?(?:=|:\s+){VALUE}")
OPTION = re.compile(rf"(?<!\S)--?(?P<name>[A-Za-z][\w-]*)\s+(?!-){VALUE}")
BEFORE = r"\s(?:[^;&|\n]*?\s)?"  # other words of the same command
SPELLINGS = {
    "a password on a command line": (
        rf"\b(?:mysql|mariadb)[\w-]*{BEFORE}-p{VALUE}",
        rf"\b(?:sshpass|mongo\w*|7z\w?){BEFORE}-p\s*{VALUE}",
        rf"\b(?:unzip|zip){BEFORE}-P\s*{VALUE}",
        rf"\bcurl{BEFORE}(?:-u\s*|--user[ =])[\"']?[^\s:\"']+:{VALUE}",
        rf"\blogin\s+\S+\s+password\s+{VALUE}",  # a line of ~/.netrc
    ),
    "a URL with a password": (r"\w://[^\s/:@]*:(?P<value>[^\s/@]+)@(?!sha256:)",),
    "a token": (
        rf"(?i)\bauthorization:\s*(?:bearer|basic|token)\s+{VALUE}",
        rf"\bwandb\s+login{BEFORE}(?P<value>\w[\w-]{{19,}})",
        r"://(?P<value>(?=[^\s/:@]*\d)(?=[^\s/:@]*[A-Za-z])[^\s/:@]{20,})@",
        r"\b(?P<value>(?:gh[opsu]_|hf_)[A-Za-z0-9]{30,}|github_pat_\w{22,}|glpat-[\w-]{20,})",
        r"\b(?P<value>AKIA[0-9A-Z]{16}|xox[abp]-[\w-]{10,})\b",
        r"-----BEGIN (?P<value>[A-Z ]*PRIVATE KEY)",
    ),
}
COMMAND = re.compile(r"\$\(([^()]*)\)|`([^`]*)`")
EXPANSION = re.compile(r"\$\{\w+(?::?[-=](?P<default>[^{}]*)|[^{}]*)\}|\$\w+|\$[@*#?!$]")
FILE = re.compile(
    r"""(?: ~ | \.{1,2} | \0+ )/\S* | /[\w.@-]+/\S*
    | [\w./-]+\.(?:pem|key|crt|pub|json|ya?ml|txt|env|cfg|ini|toml|gpg|asc)""",
    re.VERBOSE,
)


@functools.lru_cache(maxsize=4096)  # the runs of a table say the same
def spelled(text: str) -> str:
    """What secret `text` spells out, in words that do not have it; "" for none."""
    if HINT.search(text) is None:
        return ""
    for piece in _pieces(text):
        for found in (*ASSIGNED.finditer(piece), *OPTION.finditer(piece)):
            if _is_secret(found["name"], _literal(found["value"])):
                return f"a secret, the value of {found['name']}"
        for what, patterns in SPELLINGS.items():
            values = [found["value"] for pattern in patterns for found in re.finditer(pattern, piece)]
            if any(re.search(r"\w", _literal(value)) for value in values):
                return what
    return ""


def _pieces(text: str) -> Iterator[str]:
    """`text` with references in the places of expansions; before it, the commands whose output it takes."""
    while (found := COMMAND.search(text)) is not None:
        yield _expanded(found[1] or found[2] or "")
        text = f"{text[: found.start()]}{REFERENCE}{text[found.end() :]}"
    yield _expanded(text)


def _expanded(text: str) -> str:
    """`text` with references for expansions, from the inmost out; what one falls back to stands there."""
    while (found := EXPANSION.search(text)) is not None:
        text = f"{text[: found.start()]}{REFERENCE}{found['default'] or ''}{text[found.end() :]}"
    return text


def _literal(value: str) -> str:
    """What of a value stands there as it is; nothing of the name of a file."""
    value = value.strip("\"'")
    return "" if FILE.fullmatch(value) or _exists(value) else value.replace(REFERENCE, "")


def _is_secret(name: str, value: str) -> bool:
    """Whether `value` is a secret, said to be one by its `name`; switches, numbers and words are none."""
    words = _words(name)
    if not is_secret_name(name) or len(value) < MIN_SPELLED or not re.search(r"[A-Za-z]|\d{8}", value):
        return False
    if any(PLAIN_WORD.fullmatch(word) for word in words):
        return True
    is_key = "KEY" in words[-1]
    if is_key and not any(word.startswith(STRONG) for word in words):
        return len(value) >= MIN_KEY and re.search(r"\d", value) is not None
    return WORD.fullmatch(words[-1]) is not None
