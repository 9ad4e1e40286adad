"""Cases that several threads want encoded at the same time go through the encoders together: fuller batches
on a GPU.

One thread owns the device. It takes what is waiting, up to ``size`` cases, and waits ``patience_s`` for more
only while others are still being read. On a CPU it gains little, and rounding differs from one case at a time
in the last digits: there the size is 1.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

from ..models.features import CaseFeatures, DenseOutput, Inputs

Encoded = tuple[CaseFeatures, list[DenseOutput]]


class MicroBatches:
    """``encode_many``: a list of cases' inputs → a list of what each became, in order."""

    def __init__(
        self, encode_many: Callable[[list[Inputs]], list[Encoded]], size: int, patience_s: float = 0.02
    ) -> None:
        self.encode_many = encode_many
        self.size = size
        self.patience_s = patience_s
        self.sizes: list[int] = []  # of the batches so far
        self._waiting: queue.Queue[tuple[Inputs, Future]] = queue.Queue()
        threading.Thread(target=self._run, daemon=True, name="medfuse-microbatch").start()

    def __call__(self, inputs: Inputs) -> Encoded:
        """Block until this case is encoded. Raises what the encoder raised."""
        done: Future[Encoded] = Future()
        self._waiting.put((inputs, done))
        return done.result()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self.size:
                try:
                    batch.append(self._waiting.get(timeout=self.patience_s))
                except queue.Empty:
                    break
            self.sizes.append(len(batch))
            try:
                for (_, done), result in zip(batch, self.encode_many([i for i, _ in batch]), strict=True):
                    done.set_result(result)
            except BaseException as e:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(e)
