"""Draw `study.svg`: six figures of the study at the size "standard", from the records in `study.json`.

`python docs/figures/study.py FOLDER` first takes them from the folder of such a study, as far as they are drawn.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from hopmin._files import write_text
from hopmin.study import charts, journal
from hopmin.study.plan import experiments

HERE = Path(__file__)
DRAWN = {  # the place of a panel among those of its experiment, its title, and the entries of records that it needs
    "floor": (0, "floor: loss against entropy", ("training", "nouns", "verbs", "seed", "entropy", "floor", "loss")),
    "grid": (
        2, "grid: data against size",
        ("layers", "width", "seed", "parameters", "used", "tokens", "entropy", "loss", "curve", "extracted", "scored"),
    ),
    "radius": (
        0, "radius: activations, Gaussians (dashed)",
        ("layers", "width", "seed", "trained", "rows", "activations", "gaussian", "depth"),
    ),
    "memorization": (0, "memorization: random rows", ("part", "parameters", "entropy_bits", "memorized_bits")),
    "editing": (2, "editing: 10,000 facts", ("results",)),
    "capacity": (0, "capacity (dashed: theory)", ("kind", "memory", "d", "recovered")),
}  # fmt: skip
COLUMNS, WIDTH, HEIGHT = 3, 330, 250  # points


def reduced(name: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return what the figure needs of a record."""
    kept = {key: record[key] for key in DRAWN[name][2] if key in record}
    if name == "floor":
        kept["training"] = {key: record["training"][key] for key in ("layers", "width")}
    if name == "grid":
        kept["curve"] = [min(record["curve"], key=lambda point: point[2])]
    if name == "radius":
        kept["gaussian"] = [[sorted(draws)[len(draws) // 2]] for draws in record["gaussian"]]
    return json.loads(json.dumps(kept), parse_float=lambda text: float(f"{float(text):.4g}"))


def take(folder: Path) -> None:
    """Write `study.json` from the journal of a study."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in DRAWN}
    for entry in journal.read(folder)[1].values():
        name, record = entry["experiment"], {**entry["cell"], **(entry["record"] or {})}
        shown = name in DRAWN and "pretrained" not in record and record.get("part", "bits") == "bits"
        if shown and (name != "radius" or record["seed"] == 0):
            found[name].append(reduced(name, record))
    HERE.with_suffix(".json").write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


def draw() -> str:
    records = json.loads(HERE.with_suffix(".json").read_text(encoding="utf-8"))
    parts = []
    for i, (name, (place, title, _)) in enumerate(DRAWN.items()):
        figure = experiments()[name].panels(records[name])[place].figure
        figure.axes[0].set_title(title, loc="left", fontsize=14, color=charts.INK)
        svg = re.sub(r"<metadata>.*?</metadata>", "", charts.svg(figure, title), flags=re.DOTALL)
        svg = re.sub(r'class="point" tabindex="0" role="img" aria-label=([\"\']).*?\1', "", svg)
        svg = re.sub(r"\n *", "\n", svg)
        size, (y, x) = re.compile(r' width="([\d.]+)pt" height="([\d.]+)pt"'), divmod(i, COLUMNS)
        parts.append(size.sub(rf' x="{10 + x * WIDTH}" y="{10 + y * HEIGHT}" width="\1" height="\2"', svg, count=1))
    width, height = COLUMNS * WIDTH, -(-len(DRAWN) // COLUMNS) * HEIGHT
    top = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}pt">'
    return f'{top}\n<rect width="100%" height="100%" fill="#ffffff"/>\n' + "".join(parts) + "</svg>\n"


if __name__ == "__main__":
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.with_suffix(".svg")
    if given.is_dir():
        take(given)
        given = HERE.with_suffix(".svg")
    write_text(given, draw())
