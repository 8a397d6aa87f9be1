"""A dataset becomes a store and comes back: bytes, masks, values, splits; every fault is told."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from vocl.commands.data import main
from vocl.data.convert.converter import Converter, Unit
from vocl.data.sources.files import FrameFolders
from vocl.data.store.prepare import Settings, prepare
from vocl.data.store.reading import Store
from vocl.data.store.record import LEVELS, Dense, Record
from vocl.data.store.source import Stored
from vocl.data.truth import Keypoints, Truth
from vocl.errors import UserError
from vocl.interface import VOID
from vocl.stop import StopFlag, Stopped

SIZE, LENGTH = (12, 16), 5
ONE = Settings(workers=1, shard_mb=1, skip_damaged=False)


def image(value: int, suffix: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(value).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, suffix)
    return buffer.getvalue()


def label_map(t: int) -> np.ndarray:
    out = np.zeros(SIZE, np.uint8)
    out[2:6, t : t + 4] = 1
    out[8:10, 2:5] = 3
    out[0, 0] = VOID
    return out


def frames(seed: int, suffix: str = "PNG") -> list[bytes]:
    return [image(100 * seed + t, suffix) for t in range(LENGTH)]


class Made(Converter):
    """Units of one video each, as the records that it is given say; an error stands for a damaged one."""

    def __init__(self, source: Path, records: list[Record | UserError], weight: int = 400_000) -> None:
        super().__init__(source, partial=True)
        self.made, self.weight = records, weight

    def units(self) -> list[Unit]:
        return [Unit(str(number), self.weight) for number in range(len(self.made))]

    def records(self, unit: Unit):
        yield self.made[int(unit.name)]


def store_of(tmp_path: Path, *records: Record | UserError, how: Settings = ONE, name: str = "made") -> Path:
    out = tmp_path / "data" / name
    prepare(Made(tmp_path, list(records)), {"_target_": "made"}, name, out, how, StopFlag())
    return out


def labelled(number: int, split: str = "train") -> Record:
    return Record(f"v{number}", split, frames(number, "JPEG"), masks=[label_map(t) for t in range(LENGTH)])


def test_everything_comes_back(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, LEVELS, (LENGTH, *SIZE, 2), np.uint16)
    depth = np.random.default_rng(1).random((LENGTH, *SIZE, 1), np.float32)
    points = np.random.default_rng(2).random((LENGTH, 4, 3), np.float32)
    dense = {"flow": Dense(codes, -3.0, 5.0), "depth": Dense(depth)}
    record = Record(
        "a/b", "train", frames(1), fps=12.0, dense=dense, points=points, classes=["cat"], more={"id": 7}
    )
    store_of(tmp_path, record)
    source = Stored("train", tmp_path / "data", name="made", train="train")
    video = source[0]
    assert (len(source), video.name, video.length, video.size) == (1, "a/b", LENGTH, SIZE)
    assert video.fps == 12
    assert source.annotated == {"flow": "vectors", "depth": "dense", "points": "points"}
    order = [4, 0, 0, 2]
    expected = np.stack([np.array(Image.open(io.BytesIO(record.frames[t]))) for t in order])
    np.testing.assert_array_equal(video.frames(order), expected)
    found = video.annotations(["flow", "depth", "points"], order)
    flow = np.moveaxis(-3.0 + codes[order] * (8.0 / LEVELS), -1, 1)
    np.testing.assert_allclose(found["flow"], flow, atol=1e-5)
    np.testing.assert_array_equal(found["depth"], np.moveaxis(depth[order], -1, 1))
    np.testing.assert_array_equal(found["points"], points[order])
    truth = source.truth("a/b")
    assert isinstance(truth, Keypoints) and truth.size == SIZE
    assert video.more["classes"] == ["cat"] and video.more["id"] == 7


def test_bytes_are_those_of_the_source_and_any_tar_reads_them(tmp_path: Path) -> None:
    record = labelled(1)
    with tarfile.open(store_of(tmp_path, record) / "00000.tar") as tar:
        names = tar.getnames()
        assert names[:3] == ["v1/00000.jpg", "v1/00000.png", "v1/00001.jpg"]
        member = tar.extractfile("v1/00003.jpg")
        assert member is not None and member.read() == record.frames[3]


def test_masks_of_frames_and_of_objects_that_overlap(tmp_path: Path) -> None:
    one = np.zeros((LENGTH, *SIZE), np.uint8)
    one[1:, 2:8, 2:8] = 1
    two = np.zeros_like(one)
    two[:3, 4:10, 4:10] = 1
    parts = [Truth.from_labels(part) for part in (one, two)]
    truth = Truth(SIZE, LENGTH, tuple(p.objects[0] for p in parts), (None,) * LENGTH)
    partly = [label_map(t) if t % 2 == 0 else None for t in range(LENGTH)]
    store_of(
        tmp_path,
        Record("maps", "train", frames(1), masks=partly),
        Record("objects", "train", frames(2), objects=truth),
    )
    source = Stored("train", tmp_path / "data", name="made", train="train")
    maps = source[0].annotations(["masks", "boxes"], range(LENGTH))
    np.testing.assert_array_equal(maps["masks"][0], label_map(0))
    assert (maps["masks"][1] == VOID).all(), "a frame that was not annotated counts nothing"
    assert maps["boxes"].shape == (LENGTH, 3, 5) and maps["boxes"][0, 0].tolist() == [0, 2, 4, 6, 1]
    assert source.truth("objects").as_json() == truth.as_json()
    assert source[1].annotations(["masks"], [2])["masks"].max() == 2
    assert source.truth("objects").labels("drop")[1] == 2 * 4 * 4, "what both claim is known"


@pytest.mark.parametrize("workers", [1, 3])
def test_shards_and_order_do_not_depend_on_the_number_of_processes(tmp_path: Path, workers: int) -> None:
    records = [labelled(n, "validation" if n > 5 else "train") for n in range(8)]
    how = Settings(workers=workers, shard_mb=1, skip_damaged=False)
    store = Store(store_of(tmp_path, *records, how=how))
    assert [sums.videos for sums in store.manifest.shards] == [3, 3, 2]
    assert list(store.entries) == [record.name for record in records]
    digest = {shard.sha256 for shard in store.manifest.shards}
    again = Store(store_of(tmp_path, *records, name="again"))
    assert {shard.sha256 for shard in again.manifest.shards} == digest


def test_splits_are_lists_and_dev_is_cut_from_train(tmp_path: Path) -> None:
    out = store_of(tmp_path, *[labelled(n, "validation" if n > 9 else "train") for n in range(12)])
    assert sorted(p.name for p in (out / "splits").iterdir()) == [
        *("dev.txt", "train.txt", "train_minus_dev.txt", "validation.txt")
    ]
    parts = {
        name: {video.name for video in Stored(name, tmp_path / "data", name="made", train="train")}
        for name in ("train", "dev", "train_minus_dev", "validation")
    }
    assert parts["dev"] | parts["train_minus_dev"] == parts["train"] and len(parts["dev"]) == 1
    assert not parts["dev"] & parts["train_minus_dev"] and len(parts["validation"]) == 2
    cut = FrameFolders("train", tmp_path / "data", name="made", train="train_minus_dev")
    assert {cut[i].name for i in range(len(cut))} == parts["train_minus_dev"]


def test_what_a_dataset_calls_val_is_validation_too(tmp_path: Path) -> None:
    store_of(tmp_path, labelled(1), labelled(2, "val"))
    names = {
        n: Stored(n, tmp_path / "data", name="made", train="train")[0].name for n in ("val", "validation")
    }
    assert names == {"val": "v2", "validation": "v2"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{first}", "# 1 videos: all", "v1", "v1"], "says that it names 1 videos, and names 2"),
        (["{first}", "v1", "v1"], "names v1 twice"),
        (["{first}", "elsewhere"], "not in the store, as elsewhere"),
        (["{first}", "# nothing"], "names no video"),
        (["# annotation: 00", "v1"], "its first line must be"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    path = store_of(tmp_path, labelled(1)) / "splits" / "train.txt"
    first = path.read_text().splitlines()[0]
    path.write_text("\n".join(line.format(first=first) for line in lines))
    with pytest.raises(UserError, match=said):
        Stored("train", tmp_path / "data", name="made", train="train")


def test_an_unknown_split_names_the_known_ones(tmp_path: Path) -> None:
    store_of(tmp_path, labelled(1))
    with pytest.raises(UserError, match="no split 'validaton'; choose from train"):
        Stored("validaton", tmp_path / "data", name="made", train="train")


BAD = {
    "name": Record("../x", "train", frames(1)),
    "no frame": Record("x", "train", []),
    "size": Record("x", "train", [*frames(1)[:4], io.BytesIO().getvalue()]),
    "masks": Record("x", "train", frames(1), masks=[label_map(0)]),
    "mask": Record("x", "train", frames(1), masks=[np.zeros((3, 4), np.uint8)] * LENGTH),
    "points": Record("x", "train", frames(1), points=np.zeros((2, 1, 3))),
    "dense": Record("x", "train", frames(1), dense={"../up": Dense(np.zeros((LENGTH, *SIZE, 1)))}),
    "error": UserError("x: cannot be read"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_record_that_contradicts_itself_is_refused_or_left_out_with_a_word(
    tmp_path: Path, kind: str
) -> None:
    with pytest.raises(UserError):
        store_of(tmp_path, labelled(1), BAD[kind])
    assert not (tmp_path / "data" / "made" / "manifest.json").exists()
    how = Settings(workers=1, shard_mb=1, skip_damaged=True)
    store = Store(store_of(tmp_path, labelled(1), BAD[kind], how=how, name="skipping"))
    assert list(store.entries) == ["v1"] and len(store.manifest.skipped) == 1


def test_what_was_begun_goes_on_at_whole_shards(tmp_path: Path) -> None:
    records: list[Record | UserError] = [labelled(n) for n in range(9)]
    broken = [*records[:7], UserError("v7: cannot be read"), records[8]]
    out = tmp_path / "data" / "made"
    with pytest.raises(UserError, match="v7"):
        store_of(tmp_path, *broken)
    whole = {p.name: p.stat().st_mtime_ns for p in out.glob("*.tar")}
    assert sorted(whole) == ["00000.tar", "00001.tar"]
    assert not list(out.glob(".tmp*")), "nothing half-written is left"
    store_of(tmp_path, *records)
    assert len(Store(out).entries) == 9
    assert {name: (out / name).stat().st_mtime_ns for name in whole} == whole


def test_a_stop_leaves_whole_shards(tmp_path: Path) -> None:
    asked = StopFlag()
    asked.signal = 15
    out = tmp_path / "made"
    made = Made(tmp_path, [labelled(n) for n in range(30)])
    with pytest.raises(Stopped):
        prepare(made, {}, "made", out, ONE, asked)
    assert not (out / "manifest.json").exists()
    prepare(made, {}, "made", out, ONE, StopFlag())
    assert len(Store(out).entries) == 30


def test_another_source_does_not_go_on_with_it(tmp_path: Path) -> None:
    out = tmp_path / "made"
    with pytest.raises(UserError):
        begun = [*(labelled(n) for n in range(3)), UserError("x")]
        prepare(Made(tmp_path, begun), {}, "made", out, ONE, StopFlag())
    with pytest.raises(UserError, match="begun from another source"):
        prepare(Made(tmp_path, [labelled(1)]), {}, "made", out, ONE, StopFlag())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match="not empty"):
        prepare(Made(tmp_path, [labelled(1)]), {}, "made", tmp_path / "full", ONE, StopFlag())


def test_two_videos_of_one_name_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="v1"):
        store_of(tmp_path, labelled(1), labelled(1))


def damage(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 0xFF
    path.write_bytes(bytes(data))


def test_damage_is_named_when_it_is_read_and_by_verify(tmp_path: Path, capsys) -> None:
    out = store_of(tmp_path, labelled(1), labelled(2))
    assert main(["verify", str(out)]) == 0
    assert main(["info", str(out)]) == 0
    assert "2 videos" in capsys.readouterr().out
    entry = Store(out).entries["v2"]
    _, offsets, _, _ = entry.shard.members["frame"]
    damage_at = int(offsets[LENGTH + 1]) + 30
    data = bytearray((out / "00000.tar").read_bytes())
    data[damage_at] ^= 1
    (out / "00000.tar").write_bytes(bytes(data))
    video = Stored("train", tmp_path / "data", name="made", train="train")[1]
    video.frames([0])
    with pytest.raises(UserError, match=r"00000.tar: damaged, frame 1 of video v2"):
        video.frames([1])
    assert main(["verify", str(out)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "SHA-256" in said[0] and "frame 1 of video v2" in said[1]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_tar_that_was_cut_is_refused_before_a_run_starts(tmp_path: Path, share: float) -> None:
    out = store_of(tmp_path, labelled(1), labelled(2))
    tar = out / "00000.tar"
    os.truncate(tar, int(share * tar.stat().st_size))
    with pytest.raises(UserError, match=r"00000.tar: \d+ bytes, \d+ were written"):
        FrameFolders("train", tmp_path / "data", name="made").check()


@pytest.mark.parametrize("name", ["manifest.json", "00000.parquet", "splits/train.txt"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x00\xff" * 50])
def test_any_other_file_that_is_damaged_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = store_of(tmp_path, labelled(1)) / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=path.name):
        Stored("train", tmp_path / "data", name="made", train="train").check()


def test_the_index_is_plain_parquet(tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(store_of(tmp_path, labelled(1)) / "00000.parquet")
    assert table["video"].to_pylist() == ["v1"] and len(table["frame_offset"][0]) == LENGTH
    facts = json.loads(table.schema.metadata[b"vocl"])
    assert facts["videos"] == 1 and len(facts["sha256"]) == 64


@pytest.mark.parametrize("name", ["#1", "clip ", " clip", "a\u2028b", "a\x85b", "\ud800", "a\nb"])
def test_a_name_that_no_list_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a folder"):
        store_of(tmp_path, Record(name, "train", frames(1)))


def test_a_shard_that_all_was_left_out_of_is_a_shard(tmp_path: Path) -> None:
    how = Settings(workers=1, shard_mb=1, skip_damaged=True)
    records: list[Record | UserError] = [UserError(f"{n}: cannot be read") for n in range(3)]
    store = Store(store_of(tmp_path, *records, labelled(1), how=how))
    assert [sums.videos for sums in store.manifest.shards] == [0, 1] and list(store.entries) == ["v1"]


def test_more_shards_than_a_process_may_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocl.data.store.reading.MOST_OPEN", 2)
    store_of(tmp_path, *[labelled(n) for n in range(9)])
    source = Stored("train", tmp_path / "data", name="made", train="train")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        for number in range(9):
            assert source[number].frames([0]).any()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_partial_may_be_asked_for_when_counts_are_refused(tmp_path: Path) -> None:
    made, out = Made(tmp_path, [labelled(1), labelled(2)]), tmp_path / "made"
    made.published, made.partial = {"train": 5}, False
    with pytest.raises(UserError, match=r"convert.partial=true"):
        prepare(made, {"partial": False}, "made", out, ONE, StopFlag())
    made.partial = True
    assert prepare(made, {"partial": True}, "made", out, ONE, StopFlag()).shards
