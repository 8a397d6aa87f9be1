"""`vocl publish`: the folder that `vocl export` makes, as a repository of the Hugging Face Hub."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from launch.commands.sharing.export import export
from launch.selection.submitted import root_in
from vocl.command_line import defaults
from vocl.command_line.verb import RUN, RUNS, Line, option, verb, words
from vocl.errors import UserError, brief

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@verb("publish")
@words(
    "RUN OWNER/NAME [runtime.root=PATH]",
    f"{RUN} OWNER/NAME: a model repository of the Hub, made where there is none.",
    names=2,
    keys=defaults.OF_ROOT,
    takes=defaults.ROOT,
    offers=(RUNS,),
)
@option(
    "--license", "licence", default="other", help="Of the weights, as the Hub names it: mit, cc-by-4.0, ..."
)
@option("--private", is_flag=True, help="For you alone, where it is made.")
@option("--dry-run", is_flag=True, help="Say what would be pushed; needs no network.")
def main(line: Line, licence: str, private: bool, dry_run: bool) -> int:
    """Push a finished run to the Hugging Face Hub: weights, config, scores, code, a card.

    Whose account it is the Hub's client knows (`hf auth login`, or HF_TOKEN). All files are one commit, so
    that nothing is there by halves. Returns 0.
    """
    name, repository = line.names
    if not REPOSITORY.fullmatch(repository):
        raise UserError(f"{repository}: expected OWNER/NAME, a repository of the Hub")
    root, _ = root_in(line.words)
    with tempfile.TemporaryDirectory(prefix="vocl-publish-") as place:
        folder = Path(place) / "folder"
        export(root, name, folder, licence)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if dry_run:
            for path in files:
                print(f"{path.stat().st_size:12,} {path.relative_to(folder)}")
            print(f"{len(files)} files would be pushed to {repository}")
            return 0
        run = root.find_trusted(name).id
        print(_push(folder, repository, private, f"Run {run}: {len(files)} files"))
    return 0


def _push(folder: Path, repository: str, private: bool, message: str) -> str:
    """Make the repository where there is none and push; returns where it is."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        is_public = private and not api.repo_info(repository).private
        if not is_public:  # files of another run that was there before go
            found = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=message, delete_patterns="*"
            )
    except Exception as error:  # the client's transport has errors of its own, other ones in each version
        why = f"{type(error).__name__}: {error}"
        told = f"{repository}: cannot be pushed to {api.endpoint} (see hf auth whoami): {brief(why)}"
        raise UserError(told) from None
    if is_public:
        raise UserError(f"{repository}: is there already, and public; --private is for one that is made new")
    return str(found.commit_url)
