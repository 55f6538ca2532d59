"""The store next to other vector stores: `python -m benchmarks.store`; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import hopmin
from benchmarks._measure import Contestant, interleaved, machine, table, timed

LIBRARIES = ("numpy", "apsw", "sqlite-vec", "usearch", "faiss-cpu")
Array = np.ndarray[Any, np.dtype[Any]]
Search = Callable[[Array], Array]
SIZES = {"n": 400_000, "d": 384, "m": 256, "batch": 10_000, "k": 10}
QUICK = SIZES | {"n": 4000, "m": 16, "batch": 1000}
SHARES = (1, 10, 100)  # per cent of the entries that a filter leaves


def clustered(n: int, d: int, rng: np.random.Generator) -> Array:
    """Return directions around 1000 centres, as embeddings of texts are."""
    centres = rng.normal(size=(1000, d))
    p = centres[rng.integers(1000, size=n)] + 0.7 * rng.normal(size=(n, d))
    return (p / np.linalg.norm(p, axis=1, keepdims=True)).astype(np.float32)


# Each opens what it has stored and returns a search: queries (m, d) -> indices (m, k).


def hopmin_store(folder: Path, p: Array, size: dict[str, int], record: dict[str, Any]) -> Search:
    path, n = folder / "hopmin", len(p)
    with hopmin.Store(path, d=size["d"], columns={"share": "integer", "part": "integer"}, indexes=["part"]) as store:

        def fill() -> None:
            for i in range(0, n, size["batch"]):
                keys = np.arange(i, min(i + size["batch"], n))
                store.put(keys, p[keys], metadata={"share": keys * 7919 % 100, "part": keys * 100 // n})

        record["inserts/s"] = round(n / timed(fill)[0])
        record["build copy s"] = timed(lambda: store.nearest(p[0]))[0]
    store = hopmin.Store(path)
    record["open and first query ms"] = 1000 * timed(lambda: hopmin.Store(path).nearest(p[0]))[0]
    record["file / vectors"] = sum(f.stat().st_size for f in folder.glob("hopmin*")) / p.nbytes
    record["filters"] = {
        f"{share} % {kind}": lambda x, where=where, share=share: store.nearest(
            x, size["k"], where=where, parameters=[share]
        )
        for kind, where in (("at random", "share < ?"), ("together", "part < ?"))
        for share in SHARES
    }
    return lambda x: store.nearest(x, size["k"])[1]


def sqlite_vec(folder: Path, p: Array, size: dict[str, int], record: dict[str, Any]) -> Search:
    """The extension, loaded by apsw: the sqlite3 of many Pythons cannot load extensions."""
    connection = import_module("apsw").Connection(str(folder / "vec"))
    connection.enable_load_extension(True)
    connection.load_extension(import_module("sqlite_vec").loadable_path())
    connection.execute(f"CREATE VIRTUAL TABLE v USING vec0(share INTEGER, vector FLOAT[{size['d']}])")

    def fill() -> None:
        for i in range(0, len(p), size["batch"]):
            rows = [(j, j * 7919 % 100, p[j].tobytes()) for j in range(i, min(i + size["batch"], len(p)))]
            with connection:
                connection.executemany("INSERT INTO v(rowid, share, vector) VALUES (?, ?, ?)", rows)

    record["inserts/s"] = round(len(p) / timed(fill)[0])
    record["file / vectors"] = (folder / "vec").stat().st_size / p.nbytes
    question = "SELECT rowid FROM v WHERE vector MATCH ? AND k = ? ORDER BY distance"
    filtered = "SELECT rowid FROM v WHERE vector MATCH ? AND k = ? AND share < ? ORDER BY distance"

    def ask(x: Array, sql: str, *more: int) -> Array:
        return np.array([[row[0] for row in connection.execute(sql, (q.tobytes(), size["k"], *more))] for q in x])

    record["filters"] = {f"{share} % at random": lambda x, share=share: ask(x, filtered, share) for share in SHARES}
    return lambda x: ask(x, question)


def usearch(folder: Path, p: Array, size: dict[str, int], record: dict[str, Any]) -> Search:
    module = import_module("usearch.index")
    return lambda x: module.search(p, x, size["k"], metric=module.MetricKind.L2sq, exact=True).keys.reshape(len(x), -1)


def faiss(folder: Path, p: Array, size: dict[str, int], record: dict[str, Any]) -> Search:
    module = import_module("faiss")
    index = module.IndexFlatL2(size["d"])
    index.add(p)
    return lambda x: index.search(x, size["k"])[1]


def numpy(folder: Path, p: Array, size: dict[str, int], record: dict[str, Any]) -> Search:
    squares, k = np.einsum("nd,nd->n", p, p), size["k"]

    def search(x: Array) -> Array:
        s = squares - 2 * x @ p.T
        best = np.argpartition(s, k, axis=1)[:, :k]
        return np.take_along_axis(best, np.argsort(np.take_along_axis(s, best, axis=1), axis=1), axis=1)

    return search


CONTESTANTS = {"hopmin": hopmin_store, "sqlite-vec": sqlite_vec, "usearch": usearch, "FAISS": faiss, "NumPy": numpy}


def measure(size: dict[str, int], rounds: int, folder: Path) -> dict[str, Any]:
    """Return the results of all contestants that are installed."""
    rng = np.random.default_rng(0)
    p = clustered(size["n"], size["d"], rng)
    x = p[rng.integers(size["n"], size=size["m"])] + 0.02 * rng.normal(size=(size["m"], size["d"])).astype(np.float32)
    results: dict[str, Any] = {"machine": machine(LIBRARIES), "size": size, "contestants": {}, "missing": []}
    searches: dict[str, Search] = {}
    for name, prepare in CONTESTANTS.items():
        record: dict[str, Any] = {}
        try:
            searches[name] = prepare(folder, p, size, record)
        except ImportError:
            results["missing"].append(name)
            continue
        results["contestants"][name] = record
    exact = searches["hopmin"](x)
    for name, search in searches.items():
        results["contestants"][name]["recall"] = float(np.mean(search(x[:16])[:, 0] == exact[:16, 0]))
    for kind, queries in (("one query", x[:1]), (f"{size['m']} queries", x)):
        calls = {
            name: Contestant(lambda search=search, queries=queries: search(queries))
            for name, search in searches.items()
            if kind == "one query" or name != "sqlite-vec"  # it has no batches
        }
        for name, times in interleaved(calls, rounds).items():
            results["contestants"][name][kind] = times["median_ms"]
    for name, record in results["contestants"].items():
        if filters := record.pop("filters", None):
            calls = {kind: Contestant(lambda f=f: f(x[:1])) for kind, f in filters.items()}
            calls["all"] = Contestant(lambda name=name: searches[name](x[:1]))
            times = interleaved(calls, rounds)
            ratios = {kind: times[kind]["median_ms"] / times["all"]["median_ms"] for kind in filters}
            record["filter / all"] = {kind: round(ratio, 3) for kind, ratio in ratios.items()}
    return results


def text(results: dict[str, Any]) -> str:
    """Return the results as tables; times are also ratios to hopmin's."""
    own, size = results["contestants"]["hopmin"], results["size"]
    many = f"{size['m']} queries"
    rows = []
    for name, record in results["contestants"].items():
        times = (record.get(kind) for kind in ("one query", many))
        timed = [cell for kind, t in zip(("one query", many), times, strict=True) for cell in _cells(t, own[kind])]
        rest = (record.get(kind) for kind in ("inserts/s", "file / vectors", "recall"))
        rows.append([name, *timed, *("-" if number is None else f"{number:.4g}" for number in rest)])
    header = ["", "one query, ms", "ratio", f"{many}, ms", "ratio", "inserts/s", "file / vectors", "recall"]
    lines = [f"{size['n']:,} x {size['d']} float32, k = {size['k']}", "", table(header, rows), ""]
    lines += [
        f"{name}: time with a filter / without: {r['filter / all']}"
        for name, r in results["contestants"].items()
        if "filter / all" in r
    ]
    for kind in ("build copy s", "open and first query ms"):
        lines.append(f"hopmin: {kind.removesuffix(' s').removesuffix(' ms')}: {own[kind]:.3g} {kind.split()[-1]}")
    if results["missing"]:
        lines.append(f"not installed: {', '.join(results['missing'])}")
    return "\n".join(lines)


def _cells(milliseconds: float | None, own: float) -> list[str]:
    return ["-", "-"] if milliseconds is None else [f"{milliseconds:.1f}", f"{milliseconds / own:.2f}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small: only checks that everything runs")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--json", metavar="FILE", help='write the results as JSON; "-" prints them instead')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        results = measure(QUICK if options.quick else SIZES, options.rounds, Path(folder))
    if options.json == "-":
        print(json.dumps(results, indent=1))
        return 0
    print(text(results))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
