"""Draws the pictures of //tiny_vision: samples to calibrate with, and requests to test with."""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from shapes import LABELS, pictures

CALIBRATED_WITH = 200
EPOCH = (2000, 1, 1, 0, 0, 0)


def main() -> None:
    """Write `calibration.npy`, `picture.png` and `pictures.zip`, a folder with one picture of each class."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    samples = np.array([picture for _, picture in pictures(CALIBRATED_WITH, seed=3)])
    np.save(args.out / "calibration.npy", samples)
    requests = list(pictures(len(LABELS), seed=4))
    (args.out / "picture.png").write_bytes(png(requests[0][1]))
    with zipfile.ZipFile(args.out / "pictures.zip", "w") as archive:
        for kind, picture in requests:
            entry = zipfile.ZipInfo(f"pictures/{LABELS[kind].replace(' ', '_')}.png", EPOCH)
            archive.writestr(entry, png(picture))


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode without compression: what compresses differs between builds of zlib."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
