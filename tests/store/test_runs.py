"""Records of runs, and the lookup of artifacts by the names that users type."""

import pytest

from tests.store.makers import make_artifact, run_record
from wsseg.errors import ArtifactError
from wsseg.store.runs import find_artifact


@pytest.mark.parametrize("text", ["[]", "null", "5", '{"steps": 5}', '{"steps": {"a": 1}}', "{", "[" * 100_000])
def test_an_invalid_record_is_skipped_with_one_warning(store, text, caplog):
    store.save_run("sound", run_record("a" * 64))
    (store.root / "runs" / "broken.json").write_text(text)
    assert list(store.runs()) == list(store.runs()) == ["sound"]
    assert [r.message.count("broken.json is damaged") for r in caplog.records] == [1]  # one warning
    with pytest.raises(ArtifactError, match=r"broken\.json is damaged"):
        store.run("broken")
    with pytest.raises(ArtifactError, match=r"broken\.json is damaged"):  # its artifacts are not known
        store.garbage()


def test_an_artifact_is_found_by_key_folder_step_and_run(store):
    artifact = make_artifact(store, "ab" * 32)
    store.save_run("run", run_record("ab" * 32))
    for reference in ("abab", "ab" * 32, str(artifact.folder), "s0", "run:s0"):
        assert find_artifact(store, reference).key == artifact.key
    make_artifact(store, "abab" + "c" * 60)
    with pytest.raises(ArtifactError, match="abab: ambiguous: 2 artifacts match .*; give more digits"):
        find_artifact(store, "abab")
    with pytest.raises(ArtifactError, match="did you mean 's0'"):
        find_artifact(store, "s00")


def test_an_unfinished_step_is_explained(store):
    record = {**run_record("a" * 64, "b" * 64), "config_path": "/data/mine.toml", "status": "failed"}
    store.save_run("run", record)
    store.open_work("a" * 64)
    with pytest.raises(
        ArtifactError,
        match=r"s0: run run \(failed\) did not finish this step; 'wsseg run r -c /data/mine\.toml' resumes it",
    ):
        find_artifact(store, "s0")
    with pytest.raises(ArtifactError, match="s1: .*the run did not reach it, or the artifact was removed"):
        find_artifact(store, "s1")
    with store.run_in_progress("run", record), pytest.raises(ArtifactError, match="run run is in progress"):
        find_artifact(store, "s0")
    with pytest.raises(ArtifactError, match="the folder is not a finished artifact"):
        find_artifact(store, str(store.root / "work" / ("a" * 64)))
