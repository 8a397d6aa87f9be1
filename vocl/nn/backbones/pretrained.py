"""Files of pretrained weights: where they lie, and how they are downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vocl.errors import UserError
from vocl.files import atomic_path

HUB = "timm"  # where a name is looked up, if there is no file of that name
WEIGHTS_FILE = "{name}.safetensors"


def locate_weights(name: str, weights_root: Path, file: str = WEIGHTS_FILE, hub: str = HUB) -> Path:
    """The weights file of backbone `name` under `weights_root`; one of timm else from its hub.

    `file`, `hub`: what its class says. Raises `UserError` when neither is there, saying how to get it.
    """
    path = weights_root / file.format(name=name)
    if path.is_file():
        return path
    if hub != HUB:
        raise UserError(f"{path}: no such weights file; download it from {hub}")
    return fetch_weights(name, weights_root)


def fetch_weights(name: str, weights_root: Path) -> Path:
    """Download timm model `name` from the hub to `<weights_root>/<name>.safetensors`."""
    import timm
    from safetensors.torch import save_file

    check_name(name)
    path = weights_root / f"{name}.safetensors"
    try:
        with _hub():
            state = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises many kinds when it cannot reach it
        raise UserError(
            f"{path}: no such weights file, and the hub cannot be reached ({type(error).__name__}); "
            f"on a machine with network run: vocl fetch {name} runtime.weights_root={weights_root}"
        ) from error
    try:
        with atomic_path(path) as temporary:
            save_file({key: value.contiguous() for key, value in state.items()}, temporary)
    except OSError as error:
        raise UserError(
            f"runtime.weights_root={weights_root}: cannot write there: {error.strerror}"
        ) from None
    return path


def check_name(name: str) -> None:
    import timm

    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name.split('.')[0][:14]}*", pretrained=True)[:8])
        raise UserError(f"backbone.name={name}: timm has no such model; similar ones: {close or 'none'}")


@contextmanager
def _hub() -> Iterator[None]:
    """Let the hub's client look into its cache alone when the hub does not answer.

    Its own attempts take most of a minute before they give up.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(address: str) -> bool:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(address, method="HEAD"), timeout=5):
            return True
    except HTTPError:  # an answer all the same
        return True
    except (OSError, ValueError):
        return False
