"""What the README shows is what the code does and what `results/` holds."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(capsys) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    exec(compile(code.group(1), "README.md", "exec"), {})
    assert "(64, 24, 1)" in capsys.readouterr().out


def test_every_number_of_the_table_stands_in_results() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| ([\d.]+) \| ([\d.]+) \| ([\d,]+) \|", page, re.MULTILINE)
    assert len(rows) >= 4
    for benchmark, stage, mse, mae, series in rows:
        found = json.loads((ROOT / "results" / benchmark / stage / "metrics.json").read_text())["seed=0"]
        assert f"{found['mse']:.4f}" == mse, (benchmark, stage)
        assert f"{found['mae']:.4f}" == mae, (benchmark, stage)
        assert f"{found['n_series']:,.0f}" == series


def test_the_means_of_the_ladder_are_those_of_the_results() -> None:
    """All but the seconds of training, which are of the machine that trained: those are the findings' own."""
    from assets.project import Project
    from pipelines.matrix import markdown

    lines = markdown(Project(ROOT))
    assert len(lines) > 10
    table = README[README.index(lines[0]) :].split("\n\n")[0].splitlines()
    assert [line.rsplit("|", 2)[0] for line in table] == [line.rsplit("|", 2)[0] for line in lines]
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `demo` \| `(\w+)` \|.* \| (\d+ s) \|$", page, re.MULTILINE))
    shown = {line.split("`")[1]: line.rsplit("|", 2)[1].strip() for line in table[2:]}
    assert len(told) > 10
    assert {stage: shown[stage] for stage in told} == told


def test_every_command_named_exists() -> None:
    from typer.main import get_command

    from pipelines.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    docs = "\n".join(p.read_text() for p in (ROOT / "docs").glob("*.md"))
    named = set(re.findall(r"`wavecore ([a-z]+)", README + docs)) | set(
        re.findall(r"^wavecore ([a-z]+)", README, re.MULTILINE)
    )
    assert named <= known, named - known
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_linked_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_every_setting_is_in_params_and_known() -> None:
    """params.yaml names every setting of the code, so that nothing is set by a default that nobody sees."""
    from dataclasses import fields

    from wavecore import stages
    from wavecore.config import FeatureSettings, JudgeSettings, PipelineSettings, TrainSettings
    from wavecore.learn.settings import WaveletLossSettings
    from wavecore.model.settings import BudgetSettings, TimeLLMSettings
    from wavecore.model.wavelet_settings import SparseSettings, StreamsSettings, TokensSettings
    from wavecore.prompt.settings import PromptSettings
    from wavecore.stream.settings import (
        DelaySettings,
        HeadSettings,
        LossSettings,
        MemorySettings,
        OnlineSettings,
        StreamSettings,
    )

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, cls in (
        ("pipeline", PipelineSettings),
        ("features", FeatureSettings),
        ("train", TrainSettings),
        ("judge", JudgeSettings),
        ("online", OnlineSettings),
    ):
        assert set(params[section]) == {f.name for f in fields(cls)}, section
    family = params["families"]["time_llm"]
    switches = stages.get("reference").switches
    titan, own = params["stages"]["titan"]["model"], stages.get("titan").switches
    for given, said, cls in (
        (family["model"], switches, TimeLLMSettings),
        (family["model"]["prompt"], switches["prompt"], PromptSettings),
        (family["model"]["budget"], stages.get("budget").switches["budget"], BudgetSettings),
        (family["model"]["tokens"], stages.get("tokens").switches["tokens"], TokensSettings),
        (family["model"]["streams"], stages.get("streams").switches["streams"], StreamsSettings),
        (family["model"]["sparse"], stages.get("sparse").switches["sparse"], SparseSettings),
        (titan, own, StreamSettings),
        (titan["memory"], own["memory"], MemorySettings),
        (titan["head"], own["head"], HeadSettings),
        (titan["loss"], {}, LossSettings),
        (params["online"]["delay"], {}, DelaySettings),
        (params["train"]["wavelet_loss"], stages.get("loss").train_switches["wavelet_loss"], WaveletLossSettings),
    ):
        assert set(given) | set(said) == {f.name for f in fields(cls)}


def test_the_benchmark_tables_are_those_of_the_file() -> None:
    """Every line of docs/performance.md's tables of measurements is printed from results/bench.jsonl or kept.jsonl."""
    from pipelines.bench_table import TABLES, headline, kept, machine, read, speed

    rows = read(ROOT / "results" / "bench.jsonl")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [line for line in readme.splitlines() if line in headline(rows)] == headline(rows)
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert len(speed(rows)) > 12
    of_sizes = kept(read(ROOT / "results" / "kept.jsonl"))
    assert len(of_sizes) > 2
    assert all(line in text for line in machine(rows))
    for lines in (*(table(rows) for table in TABLES), of_sizes):
        for line in lines if len(lines) > 2 else ():  # a bench that was not run has a head alone
            assert line in text, line


def test_no_row_of_the_bench_is_missing() -> None:
    """What `wavecore bench all` measures stands in results/bench.jsonl, from one run: nothing was left out of it."""
    from pipelines.bench_table import read

    rows = read(ROOT / "results" / "bench.jsonl")
    assert [row["bench"] for row in rows].count("machine") == 1
    assert {"commit", "date", "cpu"} <= set(rows[0])
    found = {(row["bench"], row["backbone"], row["series"], row["path"], row["other"]) for row in rows}
    ours = {("exact", "reference"), ("exact", "plain"), ("exact, float32", "reference"),
            ("exact, static prompt", "reference"), ("budget", "reference")}  # fmt: skip
    peer = {(path, "neuralforecast") for path in ("reference", "reference, fused attention", "exact")}
    for bench in ("infer", "train"):
        for backbone, series in (("minilm", 28), ("minilm", 112), ("gpt2", 28)):
            wanted = ours | (peer if backbone == "minilm" else set())
            wanted |= {("budget", "neuralforecast")} if backbone == "minilm" and bench == "infer" else set()
            assert {(bench, backbone, series, *pair) for pair in wanted} <= found
    for backbone, lengths in (("minilm", 5), ("qwen2", 5)):
        assert (
            len({row.get("window") for row in rows if (row["bench"], row["backbone"]) == ("scale", backbone)}) > lengths
        )
    for bench, paths in (("memory", 3), ("latency", 2), ("features", 3), ("wavelet", 1)):
        assert len({row["path"] for row in rows if row["bench"] == bench and "stopped" not in row}) >= paths


def test_every_row_of_the_findings_is_what_the_results_say() -> None:
    """All but the seconds, which are of the machine that trained."""
    from assets.project import Project
    from pipelines.compare import markdown, rows_of

    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    said = re.findall(r"^(\| `\w+` \| `[\w.]+` \| `[\w.]+` \| \d:\d .*)$", page, re.MULTILINE)
    assert len(said) >= 20
    benchmarks = dict.fromkeys(re.match(r"\| `(\w+)`", line).group(1) for line in said)  # type: ignore[union-attr]
    found = {
        line.rsplit("|", 2)[0]
        for benchmark in benchmarks
        for line in markdown(rows_of(Project(ROOT), benchmark, ())).splitlines()
    }
    for line in said:
        assert line.rsplit("|", 2)[0] in found, line


def test_the_errors_per_scale_of_the_findings_are_those_of_the_results() -> None:
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    head = re.search(r"^\| `(\w+)` \| (A\d.*) \|$", page, re.MULTILINE)
    assert head is not None
    bands = [cell.split()[0] for cell in head.group(2).split(" | ")]
    lines = page[head.end() :].split("\n\n")[0].splitlines()[2:]
    assert len(lines) >= 3
    for line in lines:
        stage, *shown = (cell.strip(" `") for cell in line.strip("| ").split("|"))
        files = (ROOT / "results" / head.group(1) / stage).glob("seed=*/metrics.json")
        found = [{tuple(row[:3]): row[3] for row in json.loads(file.read_text())["rows"]} for file in files]
        means = [sum(rows["mse", "scale", band] for rows in found) / len(found) for band in bands]
        assert shown == [f"{mean:.4f}" for mean in means], stage


def test_the_tables_beyond_the_mean_error_are_those_of_the_results() -> None:
    from assets.project import Project
    from pipelines.beyond import markdown, rows_of

    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    heads = re.findall(r"^\| `(\w+)` \| (`\w+` \(\d\).*) \|$", page, re.MULTILINE)
    assert len(heads) >= 2
    for benchmark, stages in heads:
        shown = re.findall(r"`(\w+)`", stages)
        table = markdown(rows_of(Project(ROOT), benchmark, shown))
        assert len(table.splitlines()) > 8
        assert table in page, benchmark


def test_what_the_python_examples_of_the_docs_import_is_there() -> None:
    import importlib

    found = 0
    for page in (ROOT / "docs").glob("*.md"):
        for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for module, names in re.findall(r"^from ([\w.]+) import ([\w, ]+)$", code, re.MULTILINE):
                for name in names.split(","):
                    assert hasattr(importlib.import_module(module), name.strip()), (page.name, module, name)
                    found += 1
    assert found > 4


def test_every_file_linked_from_the_docs_exists() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), (page.name, target)
