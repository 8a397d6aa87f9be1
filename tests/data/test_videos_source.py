"""Video files as a training set: any frame, exactly as reading from the start gives it, and without that."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from clean_process import in_clean_process
from films import with_matrix
from PIL import Image

from vocl.assemble import make_source
from vocl.config.compose import composed
from vocl.data import random_access
from vocl.data.feed import Feed
from vocl.data.reader import open_video
from vocl.data.sources.videos import OPEN_FILES, VideoFile, VideoFiles
from vocl.errors import UserError

SHARED = Path(os.environ.get("VOCL_SHARED", Path(__file__).parents[2] / "../shared")) / "data" / "videos"
LENGTH = 60
SIZE = (64, 96)


def pictures(count: int = LENGTH) -> list[np.ndarray]:
    """Noise that moves to the left: nothing repeats, and frames predict each other."""
    wide = np.random.default_rng(0).integers(0, 255, (SIZE[0], SIZE[1] + count, 3), np.uint8)
    return [np.ascontiguousarray(wide[:, number : number + SIZE[1]]) for number in range(count)]


def write(path: Path, codec: str = "libx264", uneven: bool = False, count: int = LENGTH, **options) -> Path:
    """A film with a key frame every 12 frames, unless `options` of the encoder say otherwise."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    muxer = options.pop("muxer", {})
    with av.open(str(path), "w", options=muxer) as container:
        stream = container.add_stream(codec, rate=25, options={"g": "12"} | options)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if uneven:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(pictures(count)):
            film = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if uneven:
                film.pts, film.time_base = 40 * number + (0, 15, -8)[number % 3], Fraction(1, 1000)
            container.mux(stream.encode(film))
        container.mux(stream.encode())
    return path


def gif(path: Path) -> Path:
    first, *others = [Image.fromarray(picture) for picture in pictures()]
    first.save(path, save_all=True, append_images=others, duration=40)
    return path


def with_edit_list(path: Path) -> Path:
    """An MP4 whose first frames are decoded and not shown: a copy that begins within a group of pictures."""
    import av

    whole = write(path.parent / "whole" / path.name)
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts -= 3000
                packet.dts -= 3000
                packet.stream = stream
                target.mux(packet)
    whole.unlink()
    return path


KINDS = {
    "h264.mp4": write,
    "few_keys.mp4": lambda path: write(path, g="250"),
    "open_gop.mp4": lambda path: write(path, **{"bf": "3", "x264-params": "open-gop=1"}),
    "refreshed.mp4": lambda path: write(path, **{"x264-params": "intra-refresh=1:keyint=12"}),
    "uneven.mp4": lambda path: write(path, uneven=True),
    "rotated.mp4": lambda path: with_matrix(write(path), (0, 1, -1, 0)),
    "mirrored.mp4": lambda path: with_matrix(write(path), (-1, 0, 0, 1)),
    "edit_list.mp4": with_edit_list,
    "fragments.mp4": lambda path: write(path, muxer={"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mp4": lambda path: write(path, "libx265", **{"x265-params": "keyint=12:log-level=none"}),
    "mpeg4.mov": lambda path: write(path, "mpeg4", bf="2"),
    "h264.mkv": write,
    "uneven.mkv": lambda path: write(path, uneven=True),
    "live.mkv": lambda path: write(path, muxer={"live": "1"}),
    "vp9.webm": lambda path: write(path, "libvpx-vp9", deadline="realtime", **{"cpu-used": "8"}),
    "vp8.webm": lambda path: write(path, "libvpx", deadline="realtime", **{"cpu-used": "8"}),
    "mpeg4.avi": lambda path: write(path, "mpeg4"),
    "b_frames.avi": lambda path: write(path, "mpeg4", bf="2"),
    "h264.avi": write,  # its stamps are of another order than its frames
    "mjpeg.avi": lambda path: write(path, "mjpeg"),
    "moving.gif": gif,
}


def source_of(root: Path, skip: bool = False) -> VideoFiles:
    return VideoFiles("train", root, name="own", skip_unreadable=skip)


def videos(source: VideoFiles) -> list[VideoFile]:
    return [source[index] for index in range(len(source))]


def make_all(root: Path) -> None:
    import av

    for name, make in KINDS.items():
        path = root / "own" / "train" / name.split(".")[1] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            make(path)
        except (av.error.EncoderNotFoundError, av.codec.codec.UnknownCodecError):
            path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a video of each kind that this machine can write."""
    root = tmp_path_factory.mktemp("every")
    in_clean_process(make_all, root)
    return root


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("by", ["decord", "av"])
def test_any_frames_are_those_of_reading_in_order(every, name, by, monkeypatch):
    path = every / "own" / "train" / name.split(".")[1] / name
    if not path.is_file():
        pytest.skip(f"no encoder here for {name}")
    if by == "av":
        monkeypatch.setitem(sys.modules, "decord", None)  # import decord -> ImportError
    else:
        pytest.importorskip("decord")
    reader = open_video(path, None, None)
    straight = np.stack(list(reader))
    (video,) = (v for v in videos(source_of(every)) if v.path == path)
    assert (video.length, video.size) == (len(straight), straight.shape[1:3]) == (reader.length, reader.size)
    assert len(straight) == LENGTH or name == "edit_list.mp4"
    rng, last = np.random.default_rng(1), video.length - 1
    clips = [[last, 0], [7, 7, 3], range(4, 9), range(9, 14), [0], [last]]
    clips += [rng.integers(0, video.length, 4).tolist() for _ in range(12)]
    clips += [range(start, start + 4) for start in rng.integers(0, video.length - 4, 12)]
    for clip in clips:
        assert np.array_equal(video.frames(clip), straight[list(clip)]), list(clip)


@pytest.mark.parametrize("name", ["coffee_720p.mp4", "dog_720p.mp4", "movi_c_2.gif"])
def test_frames_of_real_videos_are_those_of_reading_in_order(tmp_path, name):
    if not (SHARED / name).is_file():
        pytest.skip(f"no real videos: {SHARED / name} is absent (set VOCL_SHARED)")
    (tmp_path / "own" / "train").mkdir(parents=True)
    (tmp_path / "own" / "train" / name).symlink_to((SHARED / name).resolve())
    (video,) = videos(source_of(tmp_path))
    wanted = [3, 12, 20] if name.endswith(".gif") else [11, 252, 270]  # of two key frames one is near 250
    straight = {n: f for n, f in enumerate(open_video(SHARED / name, None, 271)) if n in wanted}
    assert np.array_equal(video.frames(wanted), np.stack([straight[n] for n in wanted]))


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "vp9.webm", "b_frames.avi", "open_gop.mp4"])
def test_decoding_begins_at_the_nearest_key_frame(every, tmp_path, name):
    """Damage before it is not met, which reading in order would meet."""
    import av

    path = tmp_path / "own" / "train" / name
    path.parent.mkdir(parents=True)
    path.write_bytes((every / "own" / "train" / name.split(".")[1] / name).read_bytes())
    straight = np.stack(list(open_video(path, None, None)))
    with av.open(str(path)) as container:
        packets = [(p.is_keyframe, bytes(p)) for p in container.demux(video=0) if p.size]
    keys = [number for number, (key, _) in enumerate(packets) if key]
    assert len(keys) >= 4
    content = path.read_bytes()
    for number in range(1, keys[2]):  # all of the first two groups, but for the very first picture
        data = packets[number][1]
        content = content.replace(data[len(data) // 2 :], b"\xff" * (len(data) - len(data) // 2), 1)
    path.write_bytes(content)
    (video,) = videos(source_of(tmp_path))
    for number in (LENGTH - 1, keys[3] + 3, LENGTH - 8):
        assert np.array_equal(video.frames([number])[0], straight[number])
    with suppress(UserError):  # VP9 cannot tell damage
        assert not np.array_equal(video.frames(range(keys[2])), straight[: keys[2]])


def test_going_on_does_not_begin_anew(every, monkeypatch):
    (video,) = (v for v in videos(source_of(every)) if v.path.name == "few_keys.mp4")
    opened, plain = [], random_access.opened_container
    monkeypatch.setattr(random_access, "opened_container", lambda path: (opened.append(path), plain(path))[1])
    for start in range(0, LENGTH, 4):
        video.frames(range(start, start + 4))
    assert opened == [video.path]
    video.frames([0])  # its only key frame is the first: from the start again
    assert len(opened) == 2


def test_few_files_are_open_at_once(tmp_path):
    for number in range(OPEN_FILES + 3):
        write(tmp_path / "own" / "train" / f"{number}.mp4", count=6)
    source = source_of(tmp_path)

    def opened() -> int:
        links = (os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
        return sum(link.startswith(str(tmp_path)) for link in links)

    source.check()
    assert opened() == 0
    for _ in range(2):
        for video in videos(source):
            video.frames([2])
    assert opened() == OPEN_FILES


def _frames(source: VideoFiles, queue: multiprocessing.Queue) -> None:
    queue.put([video.frames([40, 5]).sum() for video in videos(source)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_opens_its_own(tmp_path, method):
    """Also where the one it was forked from is in the midst of the same files."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    for name in ("a.mp4", "b.mkv"):
        write(tmp_path / "own" / "train" / name)
    source = source_of(tmp_path)
    before = [video.frames([40, 5]).sum() for video in videos(source)]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    processes = [context.Process(target=_frames, args=(source, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    mine = [video.frames([40, 5]).sum() for video in videos(source)]
    theirs = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert mine == before and theirs == [before, before]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_may_free_what_the_other_had_open(tmp_path):
    """As a garbage collector does, at any time."""
    for name in ("a.mp4", "b.mkv"):
        write(tmp_path / "own" / "train" / name)
    gc.collect()  # the encoders that wrote them have threads
    gc.disable()
    try:
        source = source_of(tmp_path)
        source.check()
        for video in videos(source):
            video.frames([40, 5])
        del source, video
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            gc.collect()
            os._exit(0)
    finally:
        gc.enable()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_loader_processes_change_nothing(tmp_path):
    from test_feed import SETTINGS, equal

    for name, codec in {"a.mp4": "libx264", "sub/b.mkv": "libx264", "c.avi": "mpeg4"}.items():
        write(tmp_path / "own" / "train" / name, codec)
    source = source_of(tmp_path)
    settings = replace(SETTINGS, flip=0.5)
    feed = Feed(source, settings, 0, 6, 3, None)
    feed.check()
    plain = list(feed.batches(0, 4, workers=0))
    fresh = Feed(source_of(tmp_path), settings, 0, 6, 3, None)
    for ours, theirs in zip(plain, fresh.batches(0, 4, workers=2), strict=True):
        equal(ours, theirs)
    assert {name for clip in plain for name in clip.names} == {"a", "sub/b", "c"}
    assert torch.equal(plain[2].video, fresh.batch(2).video)


# ------------------------------------------------------------------------------------- what is refused


def cut(path: Path, share: float = 0.6) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_files_that_cannot_be_read_are_found_before_a_run_or_left_out(tmp_path, capsys):
    folder = tmp_path / "own" / "train"
    for name in ("a.mp4", "b.mkv", "c.mp4", "d.avi"):
        write(folder / name, "mpeg4", count=30)
    cut(folder / "b.mkv")
    (folder / "c.mp4").write_text("not a video at all\n" * 20)
    (folder / "e.webm").touch()
    with pytest.raises(UserError, match=r"b\.mkv: .*3 of 5 videos .*c\.mp4, .*e\.webm.*skip_unreadable=true"):
        source_of(tmp_path).check()
    assert capsys.readouterr() == ("", "")
    source = source_of(tmp_path, skip=True)
    source.check()
    assert [video.name for video in videos(source)] == ["a", "d"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and "3 of 5 videos are left out" in lines[-1]
    assert all(name in line for name, line in zip(("b.mkv", "c.mp4", "e.webm"), lines, strict=False))


def test_the_config_of_video_files_makes_their_source(tmp_path):
    write(tmp_path / "own" / "train" / "a.mp4", "mpeg4", count=5)
    config = composed(["dataset=videos", "dataset.name=own", f"runtime.data_root={tmp_path}"])
    source = make_source(config, "train")
    assert [(v.name, v.length) for v in videos(source)] == [("a", 5)] and source.truth("a") is None


def test_links_are_followed_and_a_circle_of_them_ends(tmp_path):
    write(tmp_path / "elsewhere" / "a.mp4", "mpeg4", count=3)
    folder = tmp_path / "own" / "train"
    folder.mkdir(parents=True)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "b.mp4").symlink_to(tmp_path / "elsewhere" / "a.mp4")
    (folder / "again").symlink_to(folder)
    assert [video.name for video in videos(source_of(tmp_path))] == ["b", "linked/a"]


def test_a_split_without_any_readable_video_is_refused(tmp_path):
    folder = tmp_path / "own" / "train"
    folder.mkdir(parents=True)
    (folder / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"none of 1 videos can be read; .*a\.mp4: does not decode"):
        source_of(tmp_path, skip=True)


def test_what_must_be_where(tmp_path):
    with pytest.raises(UserError, match=r"own: no such folder; dataset 'own' needs .*<split>/ with \*\.mp4"):
        source_of(tmp_path)
    (tmp_path / "own" / "test").mkdir(parents=True)
    with pytest.raises(UserError, match="has no split 'train'; choose from test"):
        source_of(tmp_path)
    (tmp_path / "own" / "train" / ".hidden").mkdir(parents=True)
    (tmp_path / "own" / "train" / "notes.txt").touch()
    with pytest.raises(UserError, match=r"train: holds no video; it must hold \*\.mp4"):
        source_of(tmp_path)
    for name in ("a.mp4", "a.mkv"):
        write(tmp_path / "own" / "train" / name, "mpeg4", count=3)
    with pytest.raises(UserError, match=r"holds both a\..* and a\..*; keep one file per name"):
        source_of(tmp_path)


def test_a_damaged_frame_is_one_line_also_far_from_the_start(tmp_path, capfd):
    import av

    path = write(tmp_path / "own" / "train" / "a.mp4")
    with av.open(str(path)) as container:
        data = [bytes(packet) for packet in container.demux(video=0) if packet.size][40]
    half = len(data) // 2
    path.write_bytes(path.read_bytes().replace(data, data[:half] + b"\xff" * (len(data) - half)))
    (video,) = videos(source_of(tmp_path))
    assert video.frames(range(8)).shape == (8, *SIZE, 3), "what is whole is read"
    with pytest.raises(UserError, match=r"a\.mp4: frame \d+ does not decode") as caught:
        for number in range(30, LENGTH):
            video.frames([number])
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_changed_file_has_another_fingerprint(tmp_path):
    path = write(tmp_path / "own" / "train" / "a.mp4", count=6)
    source = source_of(tmp_path)
    before = source.fingerprint("a")
    assert before == pickle.loads(pickle.dumps(source)).fingerprint("a")
    os.utime(path, ns=(1, 1))
    assert source.fingerprint("a") != before
