"""Write the record anew: `python -m record` in tests/.

A change of any number is meant, and raises PROTOCOL.
"""

from __future__ import annotations

import os

# As tests run: sums in one order.
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
)
os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}

import tempfile
from pathlib import Path

from record.keeping import keep, machine, run
from record.trials import FOLDER, TRIALS

if __name__ == "__main__":
    for name in TRIALS:
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            keep(name, *run(name, Path(folder)))
    (FOLDER / "machine.json").write_text(machine(), encoding="utf-8")
