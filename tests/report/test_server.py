"""The server answers requests with the token, for pictures of the run, from this machine; it refuses all others."""

import io
import os
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image as PILImage
from starlette.testclient import TestClient

from wsseg.report.run_report import gather
from wsseg.report.server import application
from wsseg.store.runs import find_run


@pytest.fixture(scope="module")
def report(runs):
    return gather(runs.store, *find_run(runs.store, runs.weak))


@pytest.fixture(scope="module")
def client(report):
    return TestClient(application(report, "secret"), base_url="http://127.0.0.1")


def test_pictures_are_made_on_request(client, report):
    split = report.splits["val"]
    for item in split.images.items:
        answer = client.get("/secret/layer/val/truth", params={"id": item.id})
        assert answer.headers["content-type"] == "image/png"
        assert (np.asarray(PILImage.open(io.BytesIO(answer.content))) == split.truth.mask(item.id)).all()
        assert (
            client.get("/secret/layer/val/photograph", params={"id": item.id}).headers["content-type"] == "image/jpeg"
        )
    page = client.get("/secret/")
    assert page.status_code == 200 and "img-src data: 'self';" in page.text and '"pictures":{}' in page.text


@pytest.mark.parametrize("path", [
    "/", "/secre/", "/layer/val/truth?id=000", "/secret/layer/val/truth", "/secret/layer/val/truth?id=..%2F..%2Ffiles.sqlite",
    "/secret/layer/val/truth?id=%2Fetc%2Fpasswd", "/secret/layer/val/nothing?id=000", "/secret/layer/test/truth?id=000",
    "/secret/layer/..%2f..%2fruns/truth?id=000", "/secret/../runs", "/secret/layer/val/truth?id=%00",
])  # fmt: skip
def test_other_addresses_are_not_found(client, path):
    assert client.get(path).status_code == 404


def test_other_hosts_are_refused(report):
    """A foreign page whose name points to this machine (DNS rebinding) gets no answer."""
    client = TestClient(application(report, "secret"), base_url="http://evil.example")
    assert client.get("/secret/").status_code == 400


def test_a_damaged_artifact_is_reported(copied_runs):
    report = gather(copied_runs.store, *find_run(copied_runs.store, copied_runs.weak))
    client = TestClient(application(report, "secret"), base_url="http://127.0.0.1")
    split = report.splits["val"]
    layer = next(x for x in split.layers if x.kind == "mask")
    path = layer.artifact.folder / "masks" / f"{split.images.items[1].id}.png"
    path.write_bytes(path.read_bytes()[:-4])
    answer = client.get(f"/secret/layer/val/{layer.name}", params={"id": split.images.items[1].id})
    assert answer.status_code == 410 and "missing or damaged" in answer.text


@pytest.mark.slow
def test_the_command(runs):
    command = [sys.executable, "-m", "wsseg", "view", runs.weak, "--store", str(runs.store.root)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 (our own)
            assert b"cam_crf on tiny" in answer.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0 and "Traceback" not in errors
    finally:
        process.kill()
