"""Boots a service, waits until it is ready, sends requests, checks the answers; or has a script do that.

    python3 harness.py --cases cases.json --script script.py --data FOLDER --report report.json -- COMMAND...

Runs inside an image's own file system, with the standard library alone. `cases.json` is a list of
objects: `name`, `path`, `method` (POST), `body` (JSON), `text` or `file` (sent as it is), and what the answer
must be: `status` (200), `json` (equal), `json_keys` (present), `contains` (text). The script is a Python program,
started in FOLDER with the service's address in FORGE_TEST_URL; it passes by exit status 0. Exit status: 0 all passed,
1 some did not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PORT = 3000
READY_SECONDS = 240.0
REQUEST_SECONDS = 120.0
STOP_SECONDS = 30.0

KEYS = {"name", "path", "method", "body", "text", "file", "status", "json", "json_keys", "contains"}
BODIES = {"body", "text", "file"}


def main(argv: list[str]) -> int:
    """Run every case; print a line each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--script", type=Path, help="Python program that passes by its exit status")
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the files that requests name")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args(argv)
    cases = json.loads(args.cases.read_text(encoding="utf-8")) if args.cases else []
    fault = check_cases(cases, args.data) if args.cases else ""
    if fault:
        print(f"{args.cases.name}: {fault}")
        return 1
    environ = {**os.environ, "SERVER_IP": "127.0.0.1", "SERVER_PORT": str(PORT)}
    log = Path("/tmp/server.log")
    with log.open("wb") as sink:
        server = subprocess.Popen(args.command, env=environ, cwd=environ.get("FORGE_WORKDIR"), stderr=sink, stdout=sink)
        try:
            fault = wait_until_ready(server)
            results = [] if fault else [run_case(case, args.data) for case in cases]
            if args.script and not fault:
                results.append(run_script(args.script, args.data))
        finally:
            status = stop(server)
    if not fault and status != 0:
        results.append({"name": "stops with status 0", "passed": False, "message": f"Ended with {status}"})
    if fault:
        results = [{"name": "becomes ready", "passed": False, "message": fault}]
    for result in results:
        mark = "passed" if result["passed"] else "FAILED"
        print(f"{mark}: {result['name']}" + ("" if result["passed"] else f": {result['message']}"))
    passed = all(result["passed"] for result in results)
    if not passed:
        print("The server's log ends with:")
        print("\n".join(log.read_text(errors="replace").splitlines()[-10:]))
    # Without times: the same outcome gives the same bytes.
    args.report.write_text(json.dumps({"passed": passed, "cases": results}, indent=2, sort_keys=True) + "\n")
    return 0 if passed else 1


def check_cases(cases: object, data: Path) -> str:
    """Say what is wrong with the cases, or nothing."""
    if not isinstance(cases, list) or not cases:
        return "Must be a list of requests, at least one"
    for number, case in enumerate(cases):
        if not isinstance(case, dict) or not isinstance(case.get("path"), str):
            return f"Request {number} needs a `path`"
        unknown = set(case) - KEYS
        if unknown:
            return f"Request {number} has unknown keys [{', '.join(sorted(unknown))}]"
        if len(BODIES & set(case)) > 1:
            return f"Request {number} has more than one of [{', '.join(sorted(BODIES))}]"
        if "file" in case and not (data / str(case["file"])).is_file():
            return f"Request {number} sends `{case['file']}`, which is not in the test's `data` or `deps`"
    return ""


def wait_until_ready(server: subprocess.Popen[bytes]) -> str:
    """Ask /readyz until it answers 200; what went wrong, or nothing."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            return f"The server ended with {server.returncode} before it was ready"
        try:
            if send("GET", "/readyz", None, 5.0)[0] == 200:
                return ""
        except OSError:
            pass
        time.sleep(0.1)
    return f"Not ready after {READY_SECONDS:.0f} s"


def run_case(case: dict[str, Any], data: Path) -> dict[str, Any]:
    """Send one request and judge the answer."""
    name = str(case.get("name", case["path"]))
    body = case["text"].encode() if "text" in case else None
    if "body" in case:
        body = json.dumps(case["body"]).encode()
    if "file" in case:
        body = (data / case["file"]).read_bytes()
    try:
        method = case.get("method", "GET" if body is None else "POST")
        kind = "application/octet-stream" if "file" in case else "application/json"
        status, answer = send(method, case["path"], body, REQUEST_SECONDS, kind)
    except OSError as error:
        return {"name": name, "passed": False, "message": f"No answer: {error}"}
    message = judge(case, status, answer)
    return {"name": name, "passed": not message, "message": message}


def run_script(script: Path, data: Path) -> dict[str, Any]:
    """Run a program beside the service, its output this one's; judge it by its exit status."""
    environ = {**os.environ, "FORGE_TEST_URL": f"http://127.0.0.1:{PORT}"}
    sys.stdout.flush()
    folder = data if data.is_dir() else script.parent
    done = subprocess.run([sys.executable, str(script)], env=environ, cwd=folder, stdin=subprocess.DEVNULL, check=False)
    message = f"Exit status {done.returncode}" if done.returncode else ""
    return {"name": script.name, "passed": not message, "message": message}


def judge(case: dict[str, Any], status: int, answer: bytes) -> str:
    """Say what is wrong with an answer, or nothing."""
    text = answer.decode(errors="replace")
    if status != case.get("status", 200):
        return f"Status {status}, expected {case.get('status', 200)}: {text[:200]}"
    if "contains" in case and case["contains"] not in text:
        return f"`{case['contains']}` is not in the answer: {text[:200]}"
    if "json" in case or "json_keys" in case:
        try:
            value = json.loads(answer)
        except ValueError:
            return f"Not JSON: {text[:200]}"
        if "json" in case and value != case["json"]:
            return f"Got {text[:200]}, expected {json.dumps(case['json'])}"
        missing = [key for key in case.get("json_keys", []) if key not in value]
        if missing:
            return f"No [{', '.join(missing)}] in {text[:200]}"
    return ""


def send(
    method: str, path: str, body: bytes | None, timeout: float, kind: str = "application/json"
) -> tuple[int, bytes]:
    """Send a request over loopback; status and body of the answer. OSError when there is none."""
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data=body, method=method)
    if body is not None:
        request.add_header("Content-Type", kind)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def stop(server: subprocess.Popen[bytes]) -> int:
    """Ask the server to stop, and make it; its exit status."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
