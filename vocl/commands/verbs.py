"""The command lines of the verbs that need torch, which is imported when they run."""

from __future__ import annotations

import click

from vocl.command_line import defaults
from vocl.command_line.verb import GROUPS, RUN, RUNS, Line, option, verb, words
from vocl.commands.key_values import PREDICT, RESCORE, SCORE, SHOW, key_values
from vocl.errors import UserError
from vocl.rundir.result import Which


@verb("eval")
@words(
    "RUN [eval=[...]] [dataset=NAME] [OVERRIDES...]",
    f"{RUN} Overrides: of eval, dataset and runtime.",
    names=1,
    takes=defaults.ROOT,
    offers=(RUNS, "eval=", "dataset=", "runtime.root="),
)
@option("--again", is_flag=True, help="Score again what is scored already.")
@option("--untrained", is_flag=True, help="Score the model as the run started with it, as a control.")
@option("--best", is_flag=True, help="Score the model of the best probe, where runtime.probe_best kept it.")
def evaluate(line: Line, again: bool, untrained: bool, best: bool) -> int:
    """Score a trained run again, in another way or on another dataset.

    Adds the scores to its result under keys of their own; it never trains. An evaluation that the
    run's config has starts from the settings there, any other from conf/eval. What is scored already is
    not scored twice, and said when it was by other code. Returns 0, 1 when an evaluation failed, 75 when
    stopped.
    """
    from vocl.commands import evaluate as evaluating

    if untrained and best:
        raise UserError("--best: --untrained asks for another model; leave one out")
    which: Which = "untrained" if untrained else "best" if best else ""
    return evaluating.run(line.names[0], list(line.overrides), again, which)


@verb("rescore")
@words(
    "RUN protocol=NAME [KEY=VALUE...]",
    f"{RUN} NAME: a protocol of conf/eval/protocol; protocol.KEY=VALUE changes it. KEY: eval (a name, "
    "default all whose masks were kept), runtime.root, runtime.data_root.",
    names=1,
    takes=defaults.ROOT,
    offers=(RUNS, "protocol=", *(f"{key}=" for key in RESCORE)),
)
def rescore(line: Line) -> int:
    """Score kept masks of a run by another protocol, without its model and without a GPU.

    Masks are kept by runtime.keep_masks=true, in training or by vocl eval. Adds the scores to the run's
    result as vocl eval does. Returns 0, 1 when an evaluation failed, 75 when stopped.
    """
    from vocl.commands import rescore as rescoring

    return rescoring.run(line.names[0], line.overrides)


@verb("score")
@words(
    "TRUTH LABELS protocol=NAME [KEY=VALUE...]",
    "Each a folder of indexed PNG, a folder of such folders, or JSON (YouTube-VIS annotations or results, "
    "SA-V masklets). NAME: a protocol of conf/eval/protocol; protocol.KEY=VALUE changes it. KEY: out (a "
    "JSON file), binary=true (whatever is above 0 is one object), tracking=true.",
    names=2,
    offers=("protocol=", *(f"{key}=" for key in SCORE)),
)
def score(line: Line) -> int:
    """Score the masks of any method against the truth.

    Prints every score of the protocol's label maps; rows of single videos go to out. Of points that several
    found objects claim, the later or more certain one has them. Writes nothing else.
    """
    from vocl.commands import score as scoring

    truth, labels = line.names
    return scoring.run(truth, labels, line.overrides)


@verb("predict")
@words(
    "video=FILE checkpoint=RUN [KEY=VALUE...]",
    "KEY: write (of labels, overlay, sheet, soft, slots, rle, npz), out (a new folder), fps, max_frames, "
    "fit (crop, stretch or pad), runtime.root, runtime.device.",
    names=0,
    takes=defaults.ROOT,
    offers=tuple(f"{key}=" for key in PREDICT),
)
def predict(line: Line) -> int:
    """Segment videos of one's own: an mp4, a gif, a folder of frames; or many.

    Many are a list (video=[a.mp4,b.gif]), a pattern (video='clips/*.mp4') or a folder of video files; each
    has a folder of its own in out.

    Writes label maps (labels/00000.png ..., indexed, at the size of the source), overlay.mp4 and
    sheet.png; or what is chosen, as write=[rle,soft]: soft masks (soft.npz), slots (slots.npz), COCO run
    lengths (rle.json), all labels in one array (labels.npz). video.json says which frames of the source
    they are, and when these are shown. Returns 0, 1 when one of many videos failed (the others are
    written), 75 when stopped.
    """
    from vocl.commands import predict as predicting

    return predicting.run(key_values(line.words, PREDICT))


@verb("show")
@words(
    "RUN... [KEY=VALUE...]",
    f"{RUN} KEY: out (a .png, .jpg, .pdf, .svg or .mp4, default overlay.png of the run; FOLDER/: a picture "
    "per video, and videos.json), video (a name, default the first), runtime.root, runtime.data_root, "
    "runtime.device.",
    takes=defaults.ROOT,
    offers=(RUNS, *(f"{key}=" for key in SHOW)),
)
@option("--best", type=click.IntRange(0), default=0, help="So many of the best videos by METRIC.")
@option("--worst", type=click.IntRange(0), default=0, help="So many of the worst videos by METRIC.")
@option("--by", metavar="METRIC", help="[EVALUATION/]METRIC of the rows that an evaluation of RUN left.")
def show(line: Line, best: int, worst: int, by: str | None) -> int:
    """Draw the masks of runs on held-out videos, beside the truth.

    Several runs stand in one figure, on the videos of the first. A slot has the colour of the true object
    that it is assigned to, one to one, over the whole video. An .mp4 has all frames of one video.
    """
    from vocl.commands import show as showing
    from vocl.commands.ranked import Ranking

    if not line.names:
        raise UserError("usage: vocl show RUN... [KEY=VALUE...]; got nothing")
    print(showing.show(line.names, key_values(line.overrides, SHOW), Ranking(best, worst, by)))
    return 0


@verb("replay")
@words(
    "RUN steps=A:B [runtime.KEY=VALUE...]",
    f"{RUN} Steps A to B - 1.",
    names=1,
    takes=defaults.ROOT,
    offers=(RUNS, "steps=", "runtime.root="),
)
def replay(line: Line) -> int:
    """Run steps of a run again, and name the first module whose output is not finite.

    They are run from the nearest checkpoint at or before A, on the run's own config. Writes nothing.
    Returns 0, also where a step is not finite.
    """
    from vocl.commands import replay as replaying

    replaying.replay(line.names[0], line.overrides)
    return 0


@verb("import")
@click.argument("method")
@click.argument("source", metavar="FILE", type=click.Path())
@click.argument("out", type=click.Path())
@words("[OVERRIDES...]", "Of the run, as experiment=NAME.", names=0, takes=defaults.RUNS, offers=(GROUPS,))
def import_(method: str, source: str, out: str, line: Line) -> int:
    """Make a run folder OUT of the official checkpoint FILE of a method."""
    from vocl.commands import import_ as importing

    importing.import_(method, source, out, line.overrides)
    return 0


@verb("fetch")
@words(
    "NAME... | experiment=NAME | backbone=NAME",
    "Backbones by timm's names; or what chooses one.",
    takes=defaults.RUNS,
    offers=("experiment=", "backbone=", "runtime.weights_root="),
)
def fetch(line: Line) -> int:
    """Download weights of backbones, for machines without network."""
    from vocl.commands import fetch as fetching

    fetching.fetch(line.names, line.overrides)
    return 0
