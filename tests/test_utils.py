# SPDX-License-Identifier: Apache-2.0
"""Errors, precision, metrics, and weights files."""

import contextlib
import errno
import multiprocessing
import os
import runpy
import socket
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Client
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from conftest import ROOT, config_with, ready_interpreter
from small_networks import small_network
from torch import nn

import utils
from core import metrics, processes

CPU = torch.device("cpu")


def test_evaluate_uses_running_statistics_and_counts_every_image(capsys: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    network = small_network()
    images, targets = torch.randn(10, 3, 32, 32), torch.arange(10) % 3
    with torch.no_grad():
        logits = network.eval()(images)
    network.train()
    seen = []
    batches = [(images[:4], targets[:4]), (images[4:8], targets[4:8]), (images[8:], targets[8:])]
    found = utils.evaluate(
        network,
        batches,
        metrics.ClassScores(3, CPU),
        device=CPU,
        dtype=torch.float32,
        print_frequency=2,
        on_logits=seen.append,
    )
    assert torch.allclose(torch.cat(seen), logits, atol=1e-5)
    assert found["images"] == 10
    assert found["acc1"] == pytest.approx(10 * int((logits.argmax(1) == targets).sum()))
    assert found["loss"] == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), abs=1e-5)
    assert capsys.readouterr().out.startswith("Test: [2/3] Loss ")


def test_infinite_logits_of_trained_weights_are_not_blamed_on_the_rate() -> None:
    """Three times 3e38 is infinite in float32."""
    config = config_with(__file__=str(ROOT / "config.py"))
    network = nn.Linear(3, 6)
    nn.init.constant_(network.weight, 3e38)
    batches = [(torch.ones(2, 3), torch.tensor([0, 1]))]
    evaluating = {"device": CPU, "dtype": torch.float32, "print_frequency": 9}
    for dtype, line in ((torch.float32, 89), (torch.bfloat16, 89), (torch.float16, 22)):
        remedy = utils.remedy_for_weights(config, dtype)
        message = rf"^the loss became (nan|inf) in 2 images; .*\(config.py line {line}\)"
        with pytest.raises(FloatingPointError, match=message):
            utils.evaluate(network, batches, metrics.ClassScores(6, CPU), **evaluating, remedy=remedy)


def test_auto_precision_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    assert utils.choose_dtype("auto", CPU) == torch.float32
    for capability, dtype in (((9, 0), torch.bfloat16), ((7, 5), torch.float16), ((6, 1), torch.float32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert utils.choose_dtype("auto", torch.device("cuda")) == dtype


def test_float16_on_the_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match='precision = "float16" needs a GPU'):
        utils.choose_dtype("float16", CPU)


def test_tf32_is_float32_on_the_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = r'^precision = "tf32" needs a GPU of 2020 \(Ampere\) or later; use "float32" or "auto"$'
    with pytest.raises(ValueError, match=refused):
        utils.choose_dtype("tf32", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(ValueError, match=refused):
        utils.choose_dtype("tf32", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert utils.choose_dtype("tf32", torch.device("cuda")) == torch.float32


@pytest.fixture
def library_flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For setup_runtime() within this process: torch's flags are put back in the end."""
    monkeypatch.setattr(utils, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(utils, "cv2", MagicMock())
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    yield
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
    matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.mark.parametrize("precision", ["tf32", "float32", "auto", "bfloat16"])
def test_float32_is_no_tf32(precision: str, library_flags: None) -> None:
    """By itself torch rounds the factors of a convolution to TF32, and not those of a matrix product."""
    for first in ("tf32", precision):  # whatever was set before
        utils.setup_runtime(0, "cpu", first)
    is_rounded = precision == "tf32"
    assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == is_rounded
    # what torch.compile reads
    assert (torch.backends.cudnn.conv.fp32_precision == "tf32") == is_rounded
    assert torch.get_float32_matmul_precision() == ("high" if is_rounded else "highest")


@pytest.mark.parametrize(
    ("precision", "has_routines", "machine", "is_told"),
    [
        ("bfloat16", False, "x86_64", True),
        ("bfloat16", True, "x86_64", False),
        ("bfloat16", False, "arm64", False),  # never measured
        ("auto", False, "x86_64", False),
    ],
)
def test_bfloat16_without_routines_is_told(
    precision: str,
    has_routines: bool,
    machine: str,
    is_told: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(utils, "has_fused_convolution", lambda device, dtype: has_routines)
    monkeypatch.setattr(utils.platform, "machine", lambda: machine)
    utils.warn_of_slow_precision(torch.device("cpu"), precision)
    assert ("ten times as long" in capsys.readouterr().out) == is_told
    monkeypatch.setenv("RANK", "1")  # another process of torchrun
    utils.warn_of_slow_precision(torch.device("cpu"), precision)
    assert capsys.readouterr().out == ""


def test_deterministic_sets_every_flag_and_resets_it(library_flags: None) -> None:
    for deterministic in (True, False):
        utils.setup_runtime(0, "cpu", deterministic=deterministic)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert torch.backends.cudnn.deterministic == deterministic
        assert torch.backends.cudnn.benchmark == (not deterministic)
        assert not torch.utils.deterministic.fill_uninitialized_memory
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"  # without the other flags it does no harm


def test_steps_have_their_own_random_numbers() -> None:
    draws = []
    for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)):
        utils.seed_step(*key)
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[-1]
    assert len(set(draws)) == 4


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        ("ValueError('no such thing')", 2, "no such thing\n"),
        ("FileNotFoundError(2, 'No such file or directory', 'x.jpg')", 2, "x.jpg"),
        ("FloatingPointError('nan')", 2, "nan\n"),
        ("KeyboardInterrupt()", 130, "Interrupted"),
        ("ValueError('Caught ValueError in worker\\nOriginal Traceback\\nValueError: a.jpg: bad')", 2, "a.jpg: bad\n"),
    ],
)
def test_errors_of_users_are_one_line(tmp_path: Path, error: str, status: int, line: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"import utils\nwith utils.user_errors():\n    raise {error}")
    done = ready_interpreter().run([str(program)], ROOT, dict(os.environ))
    assert done.returncode == status
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_missing_is_named_with_the_place_of_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    absolute = f"{tmp_path}/x.pth: no such file"
    for message, place in (
        ("./results/x.pth: no such file; train first", f" (looked for at {tmp_path}/results/x.pth)"),
        (absolute, ""),
        ("empty: no images", ""),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            raise FileNotFoundError(message)
        assert utils.describe_error(caught.value) == message + place


@pytest.mark.parametrize("is_there", [False, True])
def test_what_a_killed_worker_had_sent_is_no_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.chdir(tmp_path)  # the whole path may be too long for a socket
    if is_there:  # but nobody listens any more
        with socket.socket(socket.AF_UNIX) as left:
            left.bind("worker")
    with pytest.raises(ConnectionRefusedError if is_there else FileNotFoundError) as caught:
        Client("worker")
    assert str(utils.describe_error(caught.value)).startswith(KILLED)


KILLED = "A loader worker was killed, "


def test_a_worker_that_is_gone_or_never_was_there_is_told_apart(tmp_path: Path) -> None:
    reader, writer = Pipe(duplex=False)
    writer.close()
    with reader, pytest.raises(EOFError) as caught:
        reader.recv()
    assert str(utils.describe_error(caught.value)).startswith(KILLED)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="Too many open files") as refused:
        patch.setattr(os, "pipe", MagicMock(side_effect=OSError(errno.EMFILE, "Too many open files")))
        multiprocessing.get_context("fork").Process(target=print).start()
    assert str(utils.describe_error(refused.value)).endswith("Too many open files")
    program = tmp_path / "multiprocessing/program.py"  # of a clone in a folder that happens to be called so
    program.parent.mkdir()
    program.write_text("raise FileNotFoundError('/x.pth: no such file')")
    with pytest.raises(FileNotFoundError) as missing:
        runpy.run_path(str(program))
    assert utils.describe_error(missing.value) == "/x.pth: no such file"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [("ValueError('no such thing')", 2, "no such thing\n"), ("KeyboardInterrupt()", 130, "Interrupted.\n")],
)
def test_the_end_of_a_worker_does_not_disturb_the_line_about_it(
    tmp_path: Path, error: str, status: int, line: str
) -> None:
    """As torch's handler of SIGCHLD does, which raises wherever the program is."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, utils\n"
        "def fail(*_): raise RuntimeError('DataLoader worker is killed')\n"
        "signal.signal(signal.SIGCHLD, fail)\n"
        "utils.leave_if_joined = lambda *_: os.kill(os.getpid(), signal.SIGCHLD)\n"
        f"with utils.user_errors():\n    raise {error}"
    )
    done = ready_interpreter().run([str(program)], ROOT, dict(os.environ))
    assert (done.returncode, done.stderr) == (status, line)


class Left(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> contextlib.AbstractContextManager:
    """joined_processes() of two, of which the other never answers."""

    def wait_for_ever() -> None:
        raise AssertionError("would wait for what the other process does not send")

    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "meeting_store", lambda: (None, 0, 2))
    monkeypatch.setattr(utils.dist, "init_process_group", lambda *arguments, **options: None)
    monkeypatch.setattr(utils.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(utils.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(utils.dist, "destroy_process_group", wait_for_ever)
    monkeypatch.setattr(os, "_exit", leave)
    return processes.joined_processes(CPU)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("no such thing"), 2, "no such thing\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (SystemExit(143), 143, ""),
        (KeyError("a defect"), 1, "KeyError: 'a defect'\n"),
    ],
)
def test_an_error_among_processes_is_printed_and_ends_this_one_at_once(
    joined: contextlib.AbstractContextManager,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    words: str,
) -> None:
    with pytest.raises(Left) as left, utils.user_errors(), joined:
        raise error
    assert left.value.args == (status,)
    assert capsys.readouterr().err.endswith(words)


def test_processes_part_after_success(
    joined: contextlib.AbstractContextManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    parted = []
    monkeypatch.setattr(utils.dist, "destroy_process_group", lambda: parted.append(True))
    with utils.user_errors(), joined:
        pass
    assert parted == [True]


def test_defects_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(KeyError), utils.user_errors():
        raise KeyError("a defect")


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch 2.11's own use
def test_graph_that_cannot_be_compiled_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compile_small_graphs(graph: torch.fx.GraphModule, *inputs: object, **options: object) -> torch.fx.GraphModule:
        if len(graph.graph.nodes) > 10:
            raise RuntimeError("too large\nsecond line")
        return graph

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", compile_small_graphs)
    network, images = small_network().eval(), torch.randn(2, 3, 32, 32)
    expected = network(images)
    names = list(network.state_dict())
    utils.compile_network(network, CPU)
    assert capsys.readouterr().out == ""
    assert torch.equal(network(images), expected)
    line = "compile_model: torch.compile does not work here (too large); continuing without.\n"
    assert capsys.readouterr().out == line
    assert list(network.state_dict()) == names
