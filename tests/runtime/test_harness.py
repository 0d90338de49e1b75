"""What runs beside a booted image: a script, judged by its exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge_runtime.harness import PORT, run_script


def test_a_script_finds_the_service_and_its_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/wanted").write_text(f"http://127.0.0.1:{PORT}")
    script = tmp_path / "check.py"
    script.write_text("import os; assert os.environ['FORGE_TEST_URL'] == open('wanted').read()")

    assert {"name": "check.py", "passed": True, "message": ""} == run_script(script, tmp_path / "data")


def test_a_script_that_fails_says_how(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "check.py"
    script.write_text("print('it is not so'); raise SystemExit(5)")
    result = run_script(script, tmp_path / "nowhere")

    assert {"name": "check.py", "passed": False, "message": "Exit status 5"} == result
    assert "it is not so\n" == capfd.readouterr().out
