"""Room responses: the measured ones of the corpus and simulated shoebox rooms, direct sound first.

Simulation: image-source method (Allen and Berkley, 1979) by pyroomacoustics; rooms from a bathroom to a large
living room, reverberation times of 0.15 to 0.8 s.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

RESPONSE_SECONDS = 0.5
"""Responses are cut here; what comes later lies under the noise."""


def simulate_rooms(count: int, sample_rate_hz: int, seed: int) -> list[NDArray[np.float32]]:
    """`count` responses of random rooms, talkers and microphones 0.5 to 6 m apart."""
    import pyroomacoustics as pra  # noqa: PLC0415 (a second, and only for training from scratch)

    rng = np.random.default_rng((seed, 1))
    responses: list[NDArray[np.float32]] = []
    while len(responses) < count:
        size = rng.uniform([2.0, 2.0, 2.2], [7.0, 6.0, 3.2])
        reverberation_s = rng.uniform(0.15, 0.8)
        try:
            absorption, order = pra.inverse_sabine(reverberation_s, size)
        except ValueError:  # so small a room cannot ring that long
            continue
        room = pra.ShoeBox(
            size, fs=sample_rate_hz, materials=pra.Material(absorption), max_order=min(order, 12)
        )
        talker = rng.uniform([0.3, 0.3, 0.8], np.minimum(size - 0.3, [9, 9, 1.9]))
        microphone = rng.uniform([0.2, 0.2, 0.3], np.minimum(size - 0.2, [9, 9, 2.0]))
        if not 0.5 <= np.linalg.norm(talker - microphone) <= 6:
            continue
        room.add_source(talker)
        room.add_microphone(microphone)
        room.compute_rir()
        responses.append(np.asarray(room.rir[0][0], np.float32))
    return responses


def stack_responses(responses: Iterable[NDArray[np.float32]], sample_rate_hz: int) -> NDArray[np.float32]:
    """Cut each response to start at its direct sound and to unit energy: (count, taps).

    So a convolution neither moves the end of a word nor changes its level.
    """
    taps = int(RESPONSE_SECONDS * sample_rate_hz)
    rows = []
    for response in responses:
        direct = int(np.argmax(np.abs(response)))
        row = np.zeros(taps, np.float32)
        tail = response[direct : direct + taps]
        row[: len(tail)] = tail
        rows.append(row / max(float(np.sqrt(np.sum(row**2))), 1e-9))
    return np.stack(rows)
