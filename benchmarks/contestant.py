"""What the two kinds of contestants of ``models.py`` share: they run what they are told on stdin, and tell the times.

Each line on stdin and stdout is one JSON object. Standard library only: PyTorch's interpreter imports it, too.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(make: Callable[..., Any]) -> None:
    """Make a contestant of the first line's options and print its ``facts``; then call the method that each line names,
    and print what it returns with the process's peak memory so far."""
    contestant = make(**json.loads(sys.stdin.readline()))
    print(json.dumps(contestant.facts), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        seconds = getattr(contestant, request.pop("do"))(**request)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(seconds | {"peak_mib": peak}), flush=True)


def times(run: Callable[[], object], count: int) -> dict[str, list[float]]:
    """Seconds on the clock, and of the processor (of all threads), of each run."""
    result: dict[str, list[float]] = {"seconds": [], "cpu_seconds": []}
    for _ in range(count):
        began, cpu_began = time.perf_counter(), time.process_time()
        run()
        result["seconds"].append(time.perf_counter() - began)
        result["cpu_seconds"].append(time.process_time() - cpu_began)
    return result
