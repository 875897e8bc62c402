"""Ctrl-C in the middle of training: one clear line, and the next run goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment, make_project, wavecore


@pytest.mark.slow
def test_ctrl_c_says_what_to_do(tmp_path: Path) -> None:
    root = make_project(tmp_path / "project")
    params = (root / "params.yaml").read_text()
    assert "steps: 120" in params
    (root / "params.yaml").write_text(params.replace("steps: 120", "steps: 20000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "run"],
        cwd=root,
        env=environment(root),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "model  tiny|dlinear" in line:
            break
    run = root / "store" / "resume" / "tiny" / "dlinear" / "seed=0" / "run"
    while not run.is_dir():
        assert process.poll() is None, said
    os.killpg(process.pid, signal.SIGINT)
    said += process.stderr.read()
    assert process.wait(timeout=60) == 130, said
    assert "was stopped" in said
    assert "run the same command again" in said
    assert "Traceback" not in said
    (root / "params.yaml").write_text(params)
    assert "dlinear" in wavecore(root, "run").stdout
