"""The next video of an evaluation is decoded while this one is computed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from vocl.data.served import ServedVideo
from vocl.interface import Video

Share = tuple[Video | None, Any]  # a video and what is true about it
MOST_BYTES = 512 * 2**20  # of decoded frames that wait, the first ones of a longer video


class DecodedAhead:
    """`video`, of which a thread decodes frames before they are asked for.

    What is raised then is not looked at: who asks for the frames meets it again.
    """

    def __init__(self, video: Video, thread: ThreadPoolExecutor) -> None:
        self.video = video
        self.name, self.length, self.size = video.name, video.length, video.size
        self.held = min(self.length, MOST_BYTES // max(1, self.size[0] * self.size[1] * 3))
        self.decoded: Future[np.ndarray] | None = None
        if self.held:
            self.decoded = thread.submit(video.frames, range(self.held))

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames `indices`, as those of `video`."""
        if self.decoded is not None and all(0 <= i < self.held for i in indices):
            if self.decoded.exception() is None:
                return self.decoded.result()[list(indices)]
            self.decoded = None
        return self.video.frames(indices)

    def __getattr__(self, name: str) -> Any:  # what a video has beside the contract
        if name.startswith("__") or "video" not in vars(self):
            raise AttributeError(name)
        return getattr(self.video, name)


def decoded_ahead(shares: Iterable[Share]) -> Generator[Share, None, None]:
    """`shares`, each handed out when the frames of the one after it are being decoded.

    Only of videos that have a truth and whose class says `in_threads`, and where frames are read at all.
    """
    with ThreadPoolExecutor(1, "decode") as thread:
        try:
            waiting: list[Share] = []
            for video, truth in shares:
                waiting.append((video if truth is None else _begun(video, thread), truth))
                if len(waiting) > 1:
                    yield waiting.pop(0)
            yield from waiting
        finally:
            thread.shutdown(wait=False, cancel_futures=True)


def _begun(video: Any, thread: ThreadPoolExecutor) -> Any:
    if not getattr(video, "in_threads", False):
        return video
    if not isinstance(video, ServedVideo):
        return DecodedAhead(video, thread)
    return ServedVideo(DecodedAhead(video.video, thread), video.source) if video.source.reads_video else video
