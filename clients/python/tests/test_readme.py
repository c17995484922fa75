"""What the README shows, and what the example does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
PROGRAM = os.environ.get("COUNTERSIGN_BIN")


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (HERE / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def test_what_the_readme_shows_has_the_types_that_it_says(tmp_path: Path) -> None:
    for number, block in enumerate(blocks()):
        (tmp_path / f"shown_{number}.py").write_text(block)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", *map(str, tmp_path.glob("*.py"))]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout


@pytest.fixture
def dev() -> Iterator[tuple[str, str]]:
    """`countersign dev`: where its page and its sockets are."""
    if PROGRAM is None:
        pytest.skip("COUNTERSIGN_BIN names no program")
    command = [PROGRAM, "dev", "--listen", "127.0.0.1:0", "--page-listen", "127.0.0.1:0", "--log-filter", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while not (re.search(r"ws://[\d.:]+\n", said) and re.search(r"http://[\d.:]+\n", said)):
            line = process.stdout.readline()
            assert line, said
            said += line
        yield re.findall(r"http://[\d.:]+", said)[0], re.findall(r"ws://[\d.:]+", said)[0]
        process.kill()


def test_its_first_example_does_what_it_says(dev: tuple[str, str]) -> None:
    page, url = dev
    first = blocks()[0].replace("http://127.0.0.1:8000", page).replace("ws://127.0.0.1:8080", url)
    ran = subprocess.run([sys.executable, "-c", first], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.returncode) == ("{'hello': 'world'}\n", 0), ran.stderr


def test_the_example_that_listens_does(dev: tuple[str, str]) -> None:
    page, _ = dev
    command = [sys.executable, str(HERE / "examples/listen.py"), "alice", page]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == 'answered: "hello"\n'
        body = json.dumps({"subject": "alice", "payload": {"news": 1}}).encode()
        urllib.request.urlopen(
            urllib.request.Request(page + "/push", body, {"content-type": "application/json"})
        ).close()
        assert process.stdout.readline() == 'pushed: {"news": 1}\n'
        process.stdin.close()
        assert process.wait(60) == 0
