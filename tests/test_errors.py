"""Errors of the machine become one line; errors of wsseg are unchanged."""

import errno
import pickle

import cv2
import numpy as np
import pytest
import torch

from wsseg.errors import DatasetError, MachineError, OtherProcessError, WssegError, explained, explaining

VALUES = {"segmenter.batch_size": 16, "segmenter.size": 320, "segmenter.workers": 4, "segmenter.epochs": 9}


def raised(cause):
    """Return the exception that a call raises."""
    with pytest.raises(Exception) as excinfo:
        cause()
    return excinfo.value


@pytest.mark.parametrize(
    "cause",
    [
        lambda: np.empty(2**50),
        lambda: torch.empty(2**50),
        lambda: cv2.resize(np.zeros((9, 9), np.float64), (2**30, 2**20)),
        lambda: bytearray(2**60),
    ],
)  # fmt: skip
def test_a_failed_allocation_is_explained(cause):
    result = explained(raised(cause), "segmenter", VALUES)
    assert isinstance(result, MachineError), raised(cause)
    assert str(result).startswith("segmenter: out of memory (")
    assert "lower segmenter.batch_size (16 now), segmenter.size (320 now) or segmenter.workers (4 now)" in str(result)
    assert "epochs" not in str(result) and "\n" not in str(result)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), "out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.)"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "out of memory (MPS backend"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "out of memory (CUDA error"),
        (RuntimeError("could not create a primitive"), "out of memory (could not create a primitive)"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "out of memory ("),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory ("),
        (RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)"), "shared memory is full"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible"), "set segmenter.workers to 0"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "lower segmenter.workers (4 now), segmenter.size"),
        (OSError(errno.EMFILE, "Too many open files", "a.png"), "raise the limit (ulimit -n"),
        (RuntimeError("received 0 items of ancdata"), "raise the limit (ulimit -n"),
        (RuntimeError("can't start new thread"), "lower segmenter.workers (4 now), or raise the limit (ulimit -u)"),
        (OSError(errno.ENOSPC, "No space left on device", "store/x"), "segmenter: store/x: No space left on device; finished work is kept"),
        (PermissionError(errno.EACCES, "Permission denied", "store"), "segmenter: store: Permission denied"),
        (UnicodeEncodeError("ascii", "caf\xe9", 3, 4, "ordinal not in range"), "caf\xe9: the system's encoding ascii cannot express it; set PYTHONUTF8=1"),
        (UnicodeEncodeError("utf-8", "a\udcffb", 1, 2, "surrogates not allowed"), "a\\udcffb: the name is not UTF-8; rename"),
    ],
)  # fmt: skip
def test_an_error_of_the_machine_is_explained(error, message):
    result = explained(error, "segmenter", VALUES)
    assert result is not None and message in str(result)
    str(result).encode()  # it can be printed


@pytest.mark.parametrize(
    "error",
    [ValueError("out of memory"), KeyError("shared memory"), RuntimeError("shapes do not match"), BrokenPipeError(), AssertionError()],
)  # fmt: skip
def test_defects_and_closed_pipes_are_not_explained(error):
    assert explained(error, "segmenter", VALUES) is None
    with pytest.raises(type(error)) as excinfo, explaining("segmenter", VALUES):
        raise error
    assert excinfo.value is error


def test_an_error_of_wsseg_is_unchanged_and_one_of_a_loader_keeps_its_message():
    error = DatasetError("a.png: it is no image")
    with pytest.raises(DatasetError) as excinfo, explaining("segmenter"):
        raise error
    assert excinfo.value is error
    carried = "Caught DatasetError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    result = explained(
        DatasetError(f'{carried}  File "x.py", line 1, in y\nwsseg.errors.DatasetError: a.png: it is no image\n')
    )
    assert type(result) is DatasetError and str(result) == "a.png: it is no image"


def test_values_that_cannot_be_lowered_are_not_suggested():
    values = {"seeds.batch_size": 1, "seeds.size": 320, "seeds.workers": 0}
    assert "lower seeds.size (320 now);" in str(explained(MemoryError(), "seeds", values))
    assert "lower batch sizes, sizes, scales or workers" in str(explained(MemoryError()))


def test_a_lost_process_of_the_launcher_is_explained():
    error = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3")
    assert isinstance(explained(error), OtherProcessError)
    assert isinstance(explained(torch.distributed.DistNetworkError("timeout")), OtherProcessError)


@pytest.mark.parametrize("error", [WssegError, *WssegError.__subclasses__(), OtherProcessError])
def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error("one line")))  # noqa: S301
    assert type(again) is error and str(again) == "one line"
