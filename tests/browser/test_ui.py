"""The way through the UI: a seed is edited, `model` to `report` are materialized in the browser, and DVC agrees.

One project and one server serve all tests of this file. They follow each other as a user's clicks do: the graph is
looked at, the runs are launched, then their results are read in the browser, from DVC, and in a second clone.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import environment, files_below, make_project, run, wavecore
from playwright.sync_api import Page, Route, expect, sync_playwright

pytestmark = pytest.mark.browser

BENCHMARK = "demo"
STAGES = ("seasonal_naive", "dlinear")
MODEL_TO_REPORT = 'key:"model"+'
GROUPS = ("data", "features", "models", "results")
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
]
# The backfill daemon looks only every 30 s, and a busy machine of two cores is slow to train.
MINUTES = 60_000


@dataclass
class Session:
    """One server with one browser page on it.

    Attributes:
        root: the project it serves.
        url: where it listens.
        server: the process that `wavecore ui` became.
        page: the page; every request for another host is refused and noted.
        foreign: the addresses refused.
        before: path → hash of what DVC recorded before the seed was edited.
        untouched: the bytes that a new seed must not change.
    """

    root: Path
    url: str
    server: subprocess.Popen[bytes]
    page: Page
    before: dict[str, str]
    untouched: dict[str, bytes] = field(repr=False)
    foreign: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.url}{path}")
        return self.page


def git(root: Path, *args: str) -> None:
    run(root, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", *args)


def add_a_seed(root: Path) -> None:
    """As a user edits params.yaml: seeds [0] becomes [0, 3]; `demo` asks for 1 and 2 of its own."""
    path = root / "params.yaml"
    text = path.read_text()
    assert text.count("seeds: [0] ") == 1
    path.write_text(text.replace("seeds: [0] ", "seeds: [0, 3] "))


def recorded(root: Path) -> dict[str, str]:
    """Path → hash of every output in dvc.lock."""
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for entry in lock["stages"].values() for out in entry.get("outs", [])}


def models_and_results(root: Path) -> dict[str, str]:
    """Of `recorded`, what `model` and `evaluation` write."""
    return {k: v for k, v in recorded(root).items() if k.startswith(("store/models", "store/evaluations", "results"))}


def parts_of_the_old_seeds(root: Path) -> dict[str, bytes]:
    """Models and results of seeds 0 to 2, by path below the project; streams are not among them."""
    found = files_below(root / "store" / "models", root / "results" / BENCHMARK)
    return {os.path.relpath(k, root): v for k, v in found.items() if re.search("seed=[012]", k)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}\n{log.read_text()[-4000:]}")
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not answer in {seconds} s\n{log.read_text()[-4000:]}")


def start_server(root: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """`wavecore ui`, as `make ui` starts it, in a session of its own."""
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "ui", "--port", str(port)],
            cwd=root,
            env=environment(root),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Ctrl-C must reach it even where the tests themselves run in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """Ctrl-C; whatever is left of its session after that is killed, and is a failure."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        pytest.fail("Ctrl-C did not end the UI")
    try:
        os.killpg(server.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A finished project, in git, whose seeds are then edited; its UI; a page of Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("Chromium is not installed: apt-get install chromium")
    folder = tmp_path_factory.mktemp("ui")
    root = make_project(folder / "project", (BENCHMARK,))
    wavecore(root, "run")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "results of the first seeds")
    run(root, "dvc", "push", "-q")
    before, untouched = recorded(root), parts_of_the_old_seeds(root)
    add_a_seed(root)
    port, log = free_port(), folder / "ui.log"
    url = f"http://127.0.0.1:{port}"
    server = start_server(root, port, log)
    try:
        wait_for(url, server, log)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
            page = browser.new_page(viewport={"width": 1800, "height": 1100})
            made = Session(root, url, server, page, before, untouched)

            def gate(route: Route) -> None:
                address = route.request.url
                if address.startswith(("http:", "https:")) and not address.startswith(f"{url}/"):
                    made.foreign.append(address)
                    route.abort()
                else:
                    route.continue_()

            page.route("**/*", gate)
            page.set_default_timeout(MINUTES)
            expect.set_options(timeout=MINUTES)
            yield made
            browser.close()
    finally:
        stop_server(server)


def listeners(server: subprocess.Popen[bytes]) -> list[Any]:
    """The listening network sockets of the server and all it started."""
    process = psutil.Process(server.pid)
    everyone = [process, *process.children(recursive=True)]
    return [c for p in everyone for c in p.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]


def test_it_listens_on_the_loopback_address_alone(session: Session) -> None:
    found = listeners(session.server)
    assert found
    assert {c.laddr.ip for c in found} == {"127.0.0.1"}


def test_the_graph_shows_every_asset_and_nothing_covers_it(session: Session, tmp_path: Path) -> None:
    page = session.open("/asset-groups")
    graph = page.locator("foreignObject")
    for group in GROUPS:
        expect(graph.get_by_text(group, exact=True)).to_be_visible()
    # The first visit would open a dialog about a newsletter.
    assert page.get_by_role("dialog").count() == 0
    page.keyboard.press("Alt+e")  # expands all groups
    expect(graph.get_by_label("unfold_more")).to_have_count(0)
    for name in asset_names():
        # Long names are drawn with a gap in the middle.
        expect(graph.filter(has_text=re.compile(f"{name[:3]}.*{name[-2:]}")).last).to_be_visible()
    shot = tmp_path / "graph.png"
    page.screenshot(path=shot)
    assert shot.stat().st_size > 20_000  # an empty page has 5 kB


def asset_names(selection: str = "", partitioned: bool | None = None) -> list[str]:
    """The assets of the project, or those of a selection as one types it in the UI; all, or with partitions or not."""
    from dagster import AssetSelection

    from pipelines.definitions import defs

    graph = defs.resolve_asset_graph()
    chosen = AssetSelection.from_string(selection) if selection else AssetSelection.all()
    wanted = (True, False) if partitioned is None else (partitioned,)
    return sorted(k.path[-1] for k in chosen.resolve(graph) if (graph.get(k).partitions_def is not None) in wanted)


def choose_partitions(page: Page, names: tuple[str, ...]) -> None:
    """Tick `names` in the next empty list of the dialog."""
    page.get_by_role("dialog").get_by_text("Select a partition").first.click()
    for name in names:
        page.get_by_role("textbox", name="Filter partitions").fill(name)
        page.locator("label, li, a").filter(has_text=name).last.click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("textbox", name="Filter partitions")).to_have_count(0)


def test_model_to_report_through_the_buttons(session: Session) -> None:
    """One selection, one dialog: Dagster makes it a backfill, since the views have no partitions."""
    chosen = asset_names(MODEL_TO_REPORT)
    assert set(chosen) >= {"model", "evaluation", "comparison", "leaderboard", "report"}
    page = session.open("/asset-groups")
    page.locator(".CodeMirror").first.click()
    page.keyboard.type(MODEL_TO_REPORT)
    page.keyboard.press("Enter")
    expect(page.locator("foreignObject").get_by_text("data", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Materialize all").click()
    # Neither stage reads the table of prompts, so no run has made it; Dagster asks, since `model` may read it.
    sure = page.get_by_role("dialog").filter(has_text="have not been materialized yet")
    expect(sure.get_by_role("listitem")).to_have_text(["prompts"])
    sure.get_by_role("button", name="Confirm").click()
    expect(sure).to_have_count(0)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"materialize {len(chosen)} assets")
    choose_partitions(page, (BENCHMARK,))
    choose_partitions(page, STAGES)
    expect(dialog).to_contain_text(f"{len(STAGES)} partitions")
    dialog.get_by_role("button", name="Launch").click()
    page.get_by_text("View", exact=True).click()

    # Each word is the title of a column; `Succeeded` stands besides at each view and, last of all, at the whole.
    succeeded, failed = (page.get_by_text(word, exact=True) for word in ("Succeeded", "Failed"))
    complete = 2 + len(asset_names(MODEL_TO_REPORT, partitioned=False))
    deadline = time.monotonic() + 600
    while succeeded.count() < complete and failed.count() <= 1 and time.monotonic() < deadline:
        page.wait_for_timeout(1000)
    assert (succeeded.count(), failed.count()) == (complete, 1), page.locator("body").inner_text()
    expect(page.get_by_text("100% completed")).to_have_count(len(chosen))


def test_the_badges_say_passed(session: Session) -> None:
    page = session.open("/assets/model?view=checks")
    for check in ("loss_finite", "weights_verified"):
        entry = page.get_by_role("link", name=check).or_(page.get_by_text(check, exact=True)).first
        entry.click()
        expect(page.get_by_text("Passed", exact=True).first).to_be_visible()


def test_the_partition_shows_its_hash_and_a_plot(session: Session) -> None:
    for asset, key, out in (
        ("model", "curve", f"store/models/{BENCHMARK}/dlinear"),
        ("evaluation", "forecasts", f"results/{BENCHMARK}/dlinear"),
    ):
        page = session.open(f"/assets/{asset}?view=partitions&partition={BENCHMARK}%7Cdlinear")
        expect(page.get_by_text(re.compile(re.escape(recorded(session.root)[out]))).first).to_be_visible()
        page.get_by_role("row").filter(has_text=re.compile(f"^{key}")).get_by_text("Show Markdown").click()
        image = page.get_by_role("dialog").locator("img").first
        expect(image).to_be_visible()
        assert (image.get_attribute("src") or "").startswith("data:image/png;base64,")
        width, height = image.evaluate("i => [i.naturalWidth, i.naturalHeight]")
        assert width > 200
        assert height > 100


def test_dvc_has_the_new_seed_and_nothing_else_changed(session: Session) -> None:
    now = recorded(session.root)
    changed = {path for path in now if now[path] != session.before.get(path)}
    assert changed == {f"{folder}/{BENCHMARK}/dlinear" for folder in ("store/models", "store/evaluations", "results")}
    # The selection goes through the streams too, which no run had made before.
    assert all((session.root / "results" / "online" / BENCHMARK / stage / "seed=0").is_dir() for stage in STAGES)
    assert parts_of_the_old_seeds(session.root) == session.untouched
    assert "up to date" in run(session.root, "dvc", "status").stdout


def test_no_page_asked_a_foreign_host(session: Session) -> None:
    assert session.foreign == []


def test_repro_in_a_second_clone_makes_the_same_hashes(session: Session) -> None:
    """The commit before the edit, with its artifacts from the remote; there DVC runs what the same edit asks for."""
    clone = session.root.parent / "clone"
    git(session.root.parent, "clone", "-q", str(session.root), str(clone))
    run(clone, "dvc", "pull", "-q")
    add_a_seed(clone)
    assert parts_of_the_old_seeds(clone) == session.untouched
    run(clone, "dvc", "repro", "-q", timeout=900)
    assert models_and_results(clone) == models_and_results(session.root)
    assert recorded(clone) == recorded(session.root)
