"""What training on more hosts costs and brings, by a model of the time of a step, and a chart of it.

    python benchmarks/scaling.py

reads what was measured on one host (models.json, model_statistics.json, profiles.json, input_pipeline.json beside this
file), writes scaling.json beside them and docs/scaling.png. tables.py puts the tables into docs/scaling.md, which says
what the model assumes.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from common import cli
from deeplabv3p import files

HERE = Path(__file__).resolve().parent
CHART = HERE.parent / "docs" / "scaling.png"

HOSTS = (1, 2, 4, 8, 16, 32, 64)
NETWORKS = ("mobilenetv3small", "mobilenetv2", "resnet50", "xception", "unet")
BATCH = 64  # pictures of 512x512, of all hosts together
BYTES = 4  # of a gradient: float32
PASSES = 3  # FLOPs of a training step over those of its forward pass
WORTH = 0.5  # hosts that do less than this share of what they could do alone do not pay
GPU_FLOPS = 20e12  # sustained by the device of the imagined host; an assumption


@dataclasses.dataclass(frozen=True)
class Network:
    """``step`` is the seconds that one host takes for :data:`BATCH` pictures."""

    name: str
    parameters: int
    norms: int
    norm_channels: int
    step: float

    @property
    def gradient_bytes(self) -> int:
        """Of one step."""
        return BYTES * self.parameters


@dataclasses.dataclass(frozen=True)
class Link:
    """Between hosts: bytes a second in each direction, and seconds that a message takes however short it is."""

    name: str
    bandwidth: float
    latency: float


LINKS = (
    Link("1 Gbit/s", 1e9 / 8, 100e-6),
    Link("10 Gbit/s", 10e9 / 8, 50e-6),
    Link("100 Gbit/s", 100e9 / 8, 10e-6),
)


def ring_bytes(size: int, hosts: int) -> float:
    """What each host sends, and receives, when ``size`` bytes are summed over a ring of hosts."""
    return 2 * (hosts - 1) / hosts * size


def ring_seconds(size: int, hosts: int, link: Link) -> float:
    """2 (n − 1) messages one after the other, each of 1/n of the bytes."""
    return 2 * (hosts - 1) * link.latency + ring_bytes(size, hosts) / link.bandwidth


def tree_seconds(size: int, hosts: int, link: Link) -> float:
    """Short messages go up and down a tree."""
    return 2 * math.ceil(math.log2(hosts)) * (link.latency + size / link.bandwidth) if hosts > 1 else 0.0


def step_seconds(network: Network, hosts: int, link: Link) -> float:
    """Compute, divided by the hosts, and then communication, as if nothing overlapped: the gradients in one piece, and
    for each batch norm two sums a channel forward and two backward."""
    norms = 0.0
    if network.norms:
        size = 2 * BYTES * network.norm_channels // network.norms
        norms = 2 * network.norms * tree_seconds(size, hosts, link)
    return network.step / hosts + norms + ring_seconds(network.gradient_bytes, hosts, link)


def simulate(network: Network, link: Link) -> dict[str, Any]:
    """By number of hosts: seconds a step, the share of ideal, and the images/s that each host must decode."""
    points = []
    for hosts in HOSTS:
        seconds = step_seconds(network, hosts, link)
        points.append(
            {
                "hosts": hosts,
                "seconds": seconds,
                "efficiency": network.step / (hosts * seconds),
                "images_per_s": BATCH / seconds,
                "images_per_s_a_host": BATCH / hosts / seconds,
            }
        )
    return {
        "network": network.name,
        "link": link.name,
        "points": points,
        "pays_up_to": max(point["hosts"] for point in points if point["efficiency"] >= WORTH),
        "fastest_at": min(points, key=lambda point: point["seconds"])["hosts"],
    }


def read_networks() -> tuple[list[Network], list[Network]]:
    """The networks on a host like the one that was measured, and on one with the imagined GPU."""
    steps = {row["model"]: row for row in _rows("models")}
    statistics = {row["name"]: row for row in _rows("model_statistics")}
    norms = {row["model"]: row.get("composed_layers", {}).get("BatchNormalization", 0) for row in _rows("profiles")}
    measured, imagined = [], []
    for name in NETWORKS:
        row, about = steps[name], statistics[name]
        seconds = row["keras"]["train"]["ms"]["median"] / 1e3 * BATCH / row["batch_size"]
        known = name, about["parameters"], norms[name], about["moving_statistics"] // 2
        measured.append(Network(*known, seconds))
        imagined.append(Network(*known, BATCH * PASSES * about["flops"] / GPU_FLOPS))
    return measured, imagined


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return rows


def draw(result: dict[str, Any], path: Path) -> None:
    """Images/s over hosts: a column a kind of host, a row a network, a line a link, and the ideal."""
    from matplotlib.figure import Figure

    kinds = list(result["simulations"])
    figure = Figure(figsize=(5 * len(kinds), 2.4 * len(NETWORKS)), layout="constrained")
    axes = figure.subplots(len(NETWORKS), len(kinds), squeeze=False)
    for column, kind in enumerate(kinds):
        for row, name in enumerate(NETWORKS):
            axis = axes[row][column]
            runs = [run for run in result["simulations"][kind] if run["network"] == name]
            first = runs[0]["points"][0]["images_per_s"]
            axis.plot(HOSTS, [first * hosts for hosts in HOSTS], color="0.7", linestyle="--", label="ideal")
            for run in runs:
                axis.plot(HOSTS, [point["images_per_s"] for point in run["points"]], marker="o", label=run["link"])
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.set_xticks(HOSTS, [str(hosts) for hosts in HOSTS])
            axis.set_title(f"{name}, {kind}", fontsize=10)
            axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("hosts")
    for row_axes in axes:
        row_axes[0].set_ylabel("images/s")
    axes[0][0].legend(fontsize=8)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80, metadata={"Software": None})


def main() -> None:
    cli.Parser(__doc__ or "").parse_args()
    measured, imagined = read_networks()
    decode = {row["threads"]: row["pipeline"]["images_per_s"]["median"] for row in _rows("input_pipeline")}
    kinds = {"2 CPU cores (measured)": measured, f"GPU of {GPU_FLOPS / 1e12:g} TFLOP/s (assumed)": imagined}
    result = {
        "batch": BATCH,
        "worth": WORTH,
        "gpu_flops": GPU_FLOPS,
        "links": [dataclasses.asdict(link) for link in LINKS],
        "input_pipeline_images_per_s": decode,
        "networks": [
            {**dataclasses.asdict(network), "sent_bytes": {n: ring_bytes(network.gradient_bytes, n) for n in HOSTS}}
            for network in measured
        ],
        "simulations": {
            kind: [simulate(network, link) for network in networks for link in LINKS]
            for kind, networks in kinds.items()
        },
    }
    files.write_text(HERE / "scaling.json", json.dumps(result, indent=1) + "\n")
    draw(result, CHART)
    print(f"written: {HERE / 'scaling.json'}, {CHART}")


if __name__ == "__main__":
    cli.run(main)
