"""Rows of `wavecore bench all` as the tables of docs/performance.md and the README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wavecore.errors import StorageError

Rows = Sequence[Mapping[str, Any]]


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file.

    Raises:
        StorageError: it is not there, or a line is no JSON object.
    """
    if not path.is_file():
        raise StorageError(f"{path}: there is no such file", "`make bench` writes results/bench.jsonl")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise StorageError(f"{path}: not one JSON object per line ({error})", "run `make bench` again") from error


def speed(rows: Rows) -> list[str]:
    """`train` and `infer` as Markdown."""
    lines = [
        "| | language model | series | what | against | ratio (least to most) | seconds | difference |",
        "| --- | --- | ---: | --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["bench"] not in ("train", "infer"):
            continue
        what = f"{row['path']}, bf16" if row["dtype"] == "bf16" else row["path"]
        if "tokens" in row:
            what += f", {row['tokens']} patches read, facts in {row['facts']}, rest of prompt in {row['depth']} layers"
        ratio = f"{row['ratio_median']:.2f}× ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
        seconds = f"{row['seconds']:.3f} : {row['other_seconds']:.3f}"
        error = "–" if row["error"] is None else f"{row['error']:.1e}"
        other = f"{row['other']}, {row['other_dtype']}"
        cells = (row["bench"], row["backbone"], row["series"], what, other, ratio, seconds, error)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def memory(rows: Rows) -> list[str]:
    """`memory` as Markdown: peaks, and what a step keeps."""
    lines = [
        "| path | series | peak of training, MiB | peak of forecasting, MiB | kept for the backward pass, MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    own: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        if row["bench"] == "memory" and row.get("work") in ("train", "infer", "backward"):
            found = own.setdefault((row["path"], row["series"]), {})
            found[row["work"]] = row.get("saved_mb" if row["work"] == "backward" else "peak_mb")
    for (path, series), found in own.items():
        cells = [f"{found[k]:,.0f}" if found.get(k) is not None else "–" for k in ("train", "infer", "backward")]
        lines.append(f"| {path} | {series} | " + " | ".join(cells) + " |")
    return lines


def scale(rows: Rows) -> list[str]:
    """`scale` as Markdown: seconds, operations and memory against T, and the fitted exponents."""
    lines = [
        "| language model | path | T | patches read | seconds | GFLOP | peak, MiB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["bench"] != "scale":
            continue
        if "stopped" in row:
            lines.append(f"| {row['backbone']} | {row['path']} | {row['window']} | – | stopped | – | – |")
        elif "window" in row:
            peak = f"{row['peak_mb']:,.0f}" if row.get("peak_mb") else "–"
            lines.append(
                f"| {row['backbone']} | {row['path']} | {row['window']} | {row['tokens']} | {row['seconds']:.3f} | "
                f"{row['flops'] / 1e9:.1f} | {peak} |"
            )
        else:
            fitted = [row.get(f"exponent_{what}") for what in ("seconds", "flops")]
            shown = ["–" if value is None else f"**T^{value:.2f}**" for value in fitted]
            lines.append(f"| {row['backbone']} | {row['path']} | fitted | | {shown[0]} | {shown[1]} | |")
    return lines


def kept(rows: Rows) -> list[str]:
    """`kept` as Markdown: error and speed of a trained budget at each of its sizes."""
    lines = [
        "| benchmark | patches read | layers that see the facts | layers that see the rest of the prompt | "
        "prompt tokens per layer | MSE | times as fast "
        "(least to most) | against | seconds per batch |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for row in rows:
        if row["bench"] != "kept":
            continue
        if row["path"] == "exact":
            cells = [row["benchmark"], f"{row['tokens']} ({row['against']})", row["facts"], row["depth"], "–"]
            cells += [f"{row['mse']:.4f}"]
            cells += ["1", "", f"{row['seconds']:.3f}"]
        else:
            mark = " (chosen)" if row["chosen"] else ""
            ratio = f"{row['ratio_median']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
            cells = [row["benchmark"], f"{row['tokens']}{mark}", row["facts"], row["depth"], f"{row['prompt']:.1f}"]
            cells += [f"{row['mse']:.4f}", ratio, row["against"] or row["other"], f"{row['seconds']:.3f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def rest(rows: Rows) -> list[str]:
    """`machine`, `wavelet`, `features`, `latency` and the limits of `memory`, a line each."""
    lines = []
    for row in rows:
        if row["bench"] in ("train", "infer", "scale", "kept") or row.get("work") in ("train", "infer", "backward"):
            continue
        parts = [
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if v not in (None, "", 0)
        ]
        lines.append("- " + ", ".join(parts))
    return lines


def markdown(rows: Rows) -> str:
    """All tables."""
    tables = (found for found in (speed(rows), memory(rows), scale(rows), kept(rows)) if len(found) > 2)
    return "\n\n".join("\n".join(lines) for lines in (*tables, rest(rows)) if lines) + "\n"
