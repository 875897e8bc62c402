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


def headline(rows: Rows) -> list[str]:
    """Of `train` and `infer` what the README shows: the fast path, the budget and the published model against the peer,
    or the former two against the latter where the peer was not measured. Differences are left out: none has one."""
    measured = [row for row in rows if row["bench"] in ("train", "infer")]
    with_peer = {row["backbone"] for row in measured if row["other"] == "neuralforecast"}
    chosen = [
        row for row in measured
        if row["path"] in ("exact", "budget", "reference")
        and row["other"] == ("neuralforecast" if row["backbone"] in with_peer else "reference")
        and row["dtype"] == ("float32" if row["path"] == "reference" else "bf16")
    ]  # fmt: skip
    return [line.rsplit("|", 2)[0] + "|" for line in speed(chosen)]


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


def stages(rows: Rows) -> list[str]:
    """`stages` as Markdown: what each costs beside `base`, as how many times the seconds of `base`."""
    lines = [
        "| stage | T | tokens read | weights | forecasting, of `base` (least to most) | training, of `base` | GFLOP | "
        "peak of forecasting, MiB | peak of training, MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    own: dict[tuple[str, int, float | None], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["bench"] == "stages":
            own.setdefault((row["path"], row["window"], row.get("share")), {})[row.get("work", "stopped")] = row
    for (stage, window, share), works in own.items():
        name = f"`{stage}`" + (f", {100 * share:g}% kept" if share is not None else "")
        if "stopped" in works:
            lines.append(f"| {name} | {window:,} | – | – | {works['stopped']['stopped']} | – | – | – | – |")
            continue
        infer, train = works["infer"], works["train"]
        peaks = [f"{row['peak_mb']:,.0f}" if row.get("peak_mb") else "–" for row in (infer, train)]
        cells = [name, f"{window:,}", f"{infer['tokens']:g}", f"{infer['weights']:,}"]
        cells += [_times(infer), _times(train), f"{infer['flops'] / 1e9:.1f}", *peaks]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _times(row: Mapping[str, Any]) -> str:
    """Seconds of a stage over those of the one that it is held against."""
    return f"{1 / row['ratio_median']:.2f} ({1 / row['ratio_max']:.2f} to {1 / row['ratio_min']:.2f})"


def surface(rows: Rows) -> list[str]:
    """`surface` as Markdown: error, time and memory over kept tokens and T."""
    lines = [
        "| benchmark | T | stage | tokens read | MSE | of `base` at that T | "
        "forecasting, times as fast (least to most) | training, seconds | "
        "peak of forecasting 28 series, MiB | of training, MiB |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["bench"] != "surface":
            continue
        name = f"`{row['path']}`" + (f", {100 * row['share']:g}% kept" if "share" in row else "")
        cells = [row["benchmark"], f"{row['window']:,}", name, f"{row['tokens']:g}", f"{row['mse']:.4f}"]
        cells += [f"{100 * (row['mse'] / row['other_mse'] - 1):+.1f}%"]
        cells += [f"{row['ratio_median']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"]
        cells += [f"{row['train_seconds']:.0f}", *(_mib(row.get(key)) for key in ("infer_mb", "train_mb"))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _mib(value: float | str | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:,.0f}"


def variants(rows: Rows) -> list[str]:
    """`variants` as Markdown: what each variant of Titan-Stream costs, in milliseconds and MiB."""
    lines = [
        "| variant | weights | a forecast, ms | a row with learning, ms | of `titan` (least to most) | "
        "a training step, ms | kept for the backward pass, MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["bench"] == "variants":
            cells = [f"`{row['path']}`", f"{row['weights']:,}", f"{row['forecast_ms']:.1f}", f"{row['row_ms']:.1f}"]
            cells += [_times(row), f"{row['train_ms']:.0f}", f"{row['saved_mb']:.0f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def online(rows: Rows) -> list[str]:
    """`online` as Markdown: a row of a stream, beside a forecast of `titan` that learns nothing."""
    lines = [
        "| | CPU threads | a row, ms | in forecasts of `titan` (least to most) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["bench"] == "online" and "epochs" not in row:
            times = "1" if row["ratio_median"] is None else _times(row)
            lines.append(f"| {row['path']} | {row['threads']} | {1000 * row['seconds']:.2f} | {times} |")
    return lines


def epochs(rows: Rows) -> list[str]:
    """Of `online` whether a training step takes as long at the end, as Markdown."""
    lines = [
        "| | CPU threads | a step, ms | epochs | growth over all of them (Theil–Sen, 95%) |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["bench"] == "online" and "epochs" in row:
            grown = f"{100 * row['drift']:+.1f}% ({100 * row['low']:+.1f} to {100 * row['high']:+.1f}%)"
            step = f"{1000 * row['seconds']:.0f}"
            lines.append(f"| {row['path']} | {row['threads']} | {step} | {row['epochs']} | {grown} |")
    return lines


def rates(rows: Rows) -> list[str]:
    """`rates` as Markdown: errors of a stream over rates of learning, the lowest of each row in bold."""
    own = [row for row in rows if row["bench"] == "rates"]
    tried = sorted({row["rate"] for row in own if row["rate"] is not None})
    lines = [
        "| benchmark | stage | learner | " + " | ".join(["no rate", *(f"{rate:g}" for rate in tried)]) + " |",
        "| --- " * 3 + "| ---: " * (1 + len(tried)) + "|",
    ]
    found: dict[tuple[str, str, str], dict[float | None, float | None]] = {}
    for row in own:
        found.setdefault((row["benchmark"], row["stage"], row["path"]), {})[row["rate"]] = row["mse"]
    for (benchmark, stage, learner), errors in found.items():
        least = min(mse for mse in errors.values() if mse is not None)
        cells = ["" if rate not in errors else _bold(errors[rate], least) for rate in (None, *tried)]
        lines.append(f"| {benchmark} | `{stage}` | {learner} | " + " | ".join(cells) + " |")
    return lines


def _bold(mse: float | None, least: float) -> str:
    return "not finite" if mse is None else f"**{mse:.3f}**" if mse == least else f"{mse:.3f}"


def latency(rows: Rows) -> list[str]:
    """`latency` as Markdown: one window of seven series at a time."""
    lines = [
        "| path | CPU threads | median, ms | 95th percentile | first window of a pass |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["bench"] == "latency":
            what = row["path"] + (f", {row['tokens']} patches read" if "tokens" in row else "")
            what += f", T = {row['window']:,}" if row["window"] != 512 else ""
            times = (1000 * row[key] for key in ("seconds", "p95", "first"))
            lines.append(f"| {what} | {row['threads']} | " + " | ".join(f"{ms:.1f}" for ms in times) + " |")
    return lines


def limits(rows: Rows) -> list[str]:
    """The limits of `memory` as Markdown: what fits, and why no more."""
    lines = [
        "| path | what | within | found | peak, MiB | one more step |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        if "limit_gib" in row:
            found = row["window"] if row["work"] == "longest window" else row["series"]
            peak = f"{row['peak_mb']:,.0f}" if "peak_mb" in row else "–"
            cells = (row["path"], row["work"], f"{row['limit_gib']:g} GiB", f"{found:,}", peak, row["beyond"])
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def features(rows: Rows) -> list[str]:
    """`features` and `wavelet` as Markdown."""
    lines = [
        "| what | windows | against a loop of pywt (least to most) | CPU threads | seconds | difference | peak, MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["bench"] not in ("features", "wavelet"):
            continue
        if "stopped" in row:
            lines.append(f"| {row['bench']}, {row['path']} | – | {row['stopped']} | – | – | – | – |")
            continue
        what = f"{row['bench']}, {row['path']}, T = {row['window']}"
        ratio = "–"
        if row["ratio_median"] is not None:
            ratio = f"{row['ratio_median']:.2f}× ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
        other = f" : {row['other_seconds']:.3g}" if row["other_seconds"] is not None else ""
        error = "–" if row["error"] is None else f"{row['error']:.1e}"
        peak = f"{row['peak_mb']:,.0f} ({row['series_mb']:,.0f} of them the series)" if "peak_mb" in row else "–"
        if row.get("apart"):
            peak += f"; {row['loaded_mb']:,.0f} while the series was drawn"
        count = row.get("windows", row["series"])
        threads = f"{row.get('threads', '–')}" + (f" : {row['other_threads']}" if "other_threads" in row else "")
        cells = (what, f"{count:,}", ratio, threads, f"{row['seconds']:.3g}{other}", error, peak)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def machine(rows: Rows) -> list[str]:
    """What it was measured on, a line; one for all benches of a file that were measured on the same day by one code."""
    found = []
    for row in rows:
        if row["bench"] == "machine":
            made = f", commit {row['commit']}, {row['date']}" if "commit" in row else ""
            found.append(f"{row['cpu']}, {row['cores']} cores, torch {row['torch']}{made}")
    return list(dict.fromkeys(found))


TABLES = (speed, memory, scale, kept, stages, surface, online, epochs, rates, variants, latency, limits, features)


def markdown(rows: Rows) -> str:
    """All tables that have a row, and the machine."""
    found = [table(rows) for table in TABLES]
    parts = [machine(rows), *(lines for lines in found if len(lines) > 2)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"
