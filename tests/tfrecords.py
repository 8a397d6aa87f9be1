"""TFRecords as TensorFlow writes them: framing, checksums, messages, features of the MOVi builder."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

SIDE, LENGTH = 16, 3


@functools.cache
def _table() -> list[int]:
    out = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        out.append(value)
    return out


def masked_crc(data: bytes) -> int:
    """Byte by byte, as in the textbook."""
    table, value = _table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 255] ^ value >> 8
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    """One record of a file."""
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


def write(path: Path, examples: Iterable[bytes]) -> None:
    """A file of records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(framed, examples)))


@functools.cache
def _example_class() -> Any:
    """`tf.train.Example`, by its public definition."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("BytesList", "FloatList", "Int64List"), start=1):
        feature.field.add(
            name=name.lower(), number=number, type=field.TYPE_MESSAGE, type_name=f".t.{name}",
            label=field.LABEL_OPTIONAL, oneof_index=0,
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, type_name=".t.Feature", label=field.LABEL_OPTIONAL
    )
    features.field.add(
        name="feature", number=1, type=field.TYPE_MESSAGE, type_name=".t.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )  # fmt: skip
    example = file.message_type.add(name="Example")
    example.field.add(
        name="features",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".t.Features",
        label=field.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


def example(features: Mapping[str, Any]) -> bytes:
    """A message: lists of bytes, of floats, or of integers by name."""
    message = _example_class()()
    for name, values in features.items():
        entry = message.features.feature[name]
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            entry.floatlist.value.extend(values.ravel().tolist())
        elif isinstance(values, np.ndarray):
            entry.int64list.value.extend(int(value) for value in values.ravel())
        else:
            entry.byteslist.value.extend(values)
    return message.SerializeToString()


def png(pixels: np.ndarray) -> bytes:
    """Pixels h w, h w 1 or h w 3, of 8 or 16 bits."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def scene(number: int, side: int = SIDE) -> dict[str, np.ndarray]:
    """What a MOVi scene has of each pixel; two objects."""
    rng = np.random.default_rng(number)
    masks = np.zeros((LENGTH, side, side, 1), np.uint8)
    masks[:, 2:6, 3:7] = 1
    masks[1:, 8:12, 8:14] = 2
    codes = {
        "forward_flow": (LENGTH, side, side, 2),
        "backward_flow": (LENGTH, side, side, 2),
        "depth": (LENGTH, side, side, 1),
    }
    arrays = {name: rng.integers(0, 2**16, shape).astype(np.uint16) for name, shape in codes.items()}
    video = rng.integers(0, 256, (LENGTH, side, side, 3)).astype(np.uint8)
    return {"video": video, "segmentations": masks, **arrays}


def features(number: int, side: int = SIDE) -> dict[str, Any]:
    """A scene's features as the builder of MOVi-E has TFDS store them."""
    arrays = scene(number, side)
    real = np.float32
    return {
        "metadata/video_name": [str(number).encode()],
        "metadata/width": np.array([side]),
        "metadata/height": np.array([side]),
        "metadata/num_frames": np.array([LENGTH]),
        "metadata/num_instances": np.array([2]),
        "metadata/depth_range": np.array([1.5, 20.25], real),
        "metadata/forward_flow_range": np.array([-4.5, 3.25], real),
        "metadata/backward_flow_range": np.array([-3.5, 4.0], real),
        "background": [b"photo_studio"],
        "instances/category": np.array([16, 13]),
        "instances/asset_id": [b"30_CONSTRUCTION_SET", b"caf\xc3\xa9"],
        "instances/is_dynamic": np.array([0, 1]),
        "instances/visibility": np.array([[16, 16, 16], [0, 24, 24]]),
        "instances/bboxes/ragged_flat_values": np.linspace(0, 1, 20, dtype=real),
        "instances/bboxes/ragged_row_lengths_0": np.array([3, 2]),
        "instances/bbox_frames/ragged_flat_values": np.array([0, 1, 2, 1, 2]),
        "instances/bbox_frames/ragged_row_lengths_0": np.array([3, 2]),
        "instances/mass": np.array([1.0, 2.0], real),
        "camera/focal_length": np.array([35.0], real),
        "camera/positions": np.arange(9, dtype=real),
        "video": [png(frame) for frame in arrays["video"]],
        "segmentations": [png(frame) for frame in arrays["segmentations"]],
        "forward_flow": arrays["forward_flow"],
        "backward_flow": arrays["backward_flow"],
        "depth": [png(frame) for frame in arrays["depth"]],
    }


def write_movi(source: Path, name: str = "movi_e") -> None:
    """Two files of training videos 0 to 3, one of validation video 4."""
    for part in range(2):
        scenes = (example(features(2 * part + number)) for number in range(2))
        write(source / f"{name}-train.tfrecord-{part:05d}-of-00002", scenes)
    write(source / f"{name}-validation.tfrecord-00000-of-00001", [example(features(4))])
