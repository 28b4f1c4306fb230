# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning with frozen blocks, as users do it: train.py from pretrained weights."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from checkpoint_files import assert_equal, read
from conftest import Project

TUNED = "samples/Tuned"
# train.py, which stands still where it computes outputs.
SLOW = """
import signal
import config, train
from core import frozen_blocks
from utils import user_errors

def wait(self, images):
    print("computing", flush=True)
    while True:  # a signal that comes just before signal.pause() would not end it
        pass

frozen_blocks.FrozenForm.__call__ = wait
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
with user_errors('Interrupted; training continues at its newest checkpoint with resume = "auto".'):
    train.main(config)
"""
START = "results/MobileNetV2-Colours/best.pth.tar"


def tuned_like(trained: Project, root: Path, **changes: object) -> Project:
    """A project that will fine-tune the trained weights."""
    project = trained.copy_to(root)
    project.set(exp_name="Tuned", pretrained_model_weights_path=START, epochs=2, batch_size=8, num_workers=0)
    project.set(model_dropout=0.2, random_crop_scale=(0.5, 1.0), precision="float32")
    project.set(**changes)
    return project


def weights_after(project: Project, epoch: int) -> dict[str, torch.Tensor]:
    return read(project.root / TUNED / f"epoch_{epoch}.pth.tar")["state_dict"]


@pytest.fixture(scope="module")
def tuned(trained_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """After 4 epochs with the last five blocks trained, on two views of each image."""
    project = tuned_like(trained_project, tmp_path_factory.mktemp("tuned") / "project")
    project.set(frozen_blocks=14, cached_views=2, epochs=4, keep_checkpoints=4, num_workers=2, backbone_lr_factor=0.5)
    project.training_output = project.run_well("train.py")
    return project


def test_what_is_frozen_stays_and_the_rest_moves(trained_project: Project, tuned: Project) -> None:
    before, after = read(trained_project.root / START)["state_dict"], weights_after(tuned, 4)
    for name, value in after.items():
        is_frozen = name.startswith("features.") and int(name.split(".")[1]) < 14
        assert torch.equal(value, before[name]) == is_frozen, name
    averaged = read(tuned.root / "results/Tuned/last.pth.tar")["state_dict"]
    assert all(
        torch.equal(averaged[f"features.{n}.conv.1.0.weight"], before[f"features.{n}.conv.1.0.weight"]) for n in (2, 13)
    )
    momenta = read(tuned.root / TUNED / "epoch_4.pth.tar")["optimizer"]["state"]
    assert len(momenta) == 4 * 9 + 3 + 2  # blocks of 3 convolutions with 3 tensors each, the last one, the classifier


def test_what_is_frozen_and_kept_is_said(tuned: Project) -> None:
    printed = tuned.training_output
    assert "The first 14 of 19 blocks are frozen; " in printed
    assert "Outputs of the frozen blocks for 2 x 144 images: " in printed
    assert "Outputs of the frozen blocks for 1 x 15 images: " in printed


def test_kept_outputs_are_those_of_the_images(trained_project: Project, tuned: Project, tmp_path: Path) -> None:
    """The views of epochs 0 and 1; computed in other batches they round differently."""
    project = tuned_like(trained_project, tmp_path / "project", frozen_blocks=14, epochs=4, backbone_lr_factor=0.5)
    project.set(keep_checkpoints=4)
    project.run_well("train.py")
    kept, computed = (weights_after(each, 2) for each in (tuned, project))
    for name in kept:
        torch.testing.assert_close(kept[name], computed[name], rtol=1e-3, atol=1e-3, msg=name)
    later = [weights_after(each, 4)["classifier.1.weight"] for each in (tuned, project)]
    assert (later[0] - later[1]).abs().max() > 1e-3  # by then the views are others


def test_scores_of_outputs_are_those_of_test_py(tuned: Project, tmp_path: Path) -> None:
    project = tuned.copy_to(tmp_path / "project")
    project.set(mode="test", model_weights_path="./results/Tuned/last.pth.tar")
    printed = project.run_well("test.py", mode="test")
    (trained,) = re.findall(r"\* Epoch 4/4 Acc@1 ([\d.]+) Macro ([\d.]+)", tuned.training_output)
    assert re.findall(r"\* Acc@1 ([\d.]+) .*Macro ([\d.]+)", printed) == [trained]


@pytest.mark.parametrize("is_kept", [True, False])
def test_resumed_run_has_the_bits_of_an_uninterrupted_one(tuned: Project, tmp_path: Path, is_kept: bool) -> None:
    project = tuned.copy_to(tmp_path / "project")
    for epoch in (3, 4):
        (project.root / TUNED / f"epoch_{epoch}.pth.tar").unlink()
    if not is_kept:
        (project.root / TUNED / "frozen_train.outputs").unlink()
    project.set(resume="auto", num_workers=0)
    printed = project.run_well("train.py")
    assert "epoch_2.pth.tar` after 2 of 4 epochs" in printed
    assert ("Outputs of the frozen blocks for 2 x 144" in printed) != is_kept
    one, other = (read(each.root / TUNED / "epoch_4.pth.tar") for each in (tuned, project))
    for checkpoint in (one, other):
        for name in ("resume", "num_workers"):
            del checkpoint["config"][name]
    assert_equal(one, other)


def test_outputs_for_other_images_are_computed_anew(tuned: Project, tmp_path: Path) -> None:
    project = tuned.copy_to(tmp_path / "project")
    first, second = sorted((project.root / "data/Colours/train/red").iterdir())[:2]
    shutil.copy(first, second)
    project.set(resume="auto", epochs=5)
    printed = project.run_well("train.py")
    assert "frozen_train.outputs` holds outputs for other images: computed anew." in printed
    assert "frozen_valid.outputs`" not in printed


def test_without_augmentation_one_output_is_kept(trained_project: Project, tmp_path: Path) -> None:
    """Unreadable images are left out of them as they are of batches of images: here the whole of the first batch."""
    project = tuned_like(trained_project, tmp_path / "project", frozen_blocks=19, random_crop_scale=None)
    for path in sorted((project.root / "data/Colours/train/blue").iterdir())[:9]:
        path.write_bytes(b"no image")
    project.set(bad_images="skip", class_weights="balanced", compile_model=False, mixup_alpha=0.2, cached_views=2)
    printed = project.run_well("train.py")
    assert "Outputs of the frozen blocks for 1 x 144 images: " in printed
    assert printed.count("Left out 9 unreadable training images") == 2
    assert len(read(project.root / TUNED / "epoch_2.pth.tar")["optimizer"]["state"]) == 2


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"frozen_blocks": 20}, r"frozen_blocks = 20; expected an int from 0 to 19, of all blocks"),
        ({"cached_views": 2}, r"cached_views = 2 keeps outputs of frozen blocks, and frozen_blocks = 0 \(line \d+\)"),
        (
            {"frozen_blocks": 9, "cached_views": 2, "cutmix_alpha": 1.0},
            r"cached_views .*, and cutmix_alpha = 1.0 \(line 72\)",
        ),
        (
            {"frozen_blocks": 9, "pretrained_model_weights_path": ""},
            r"frozen_blocks = 9 would keep random weights; set",
        ),
        ({"class_weights": "even"}, r'class_weights = .even.; expected None or "balanced"'),
        ({"backbone_lr_factor": 0}, r"backbone_lr_factor = 0; expected a number above 0"),
    ],
)
def test_what_cannot_be_frozen_is_refused(
    trained_project: Project, tmp_path: Path, changes: dict, refusal: str
) -> None:
    project = tuned_like(trained_project, tmp_path / "project", **changes)
    assert re.search(rf"^config.py line \d+: {refusal}", project.refusal("train.py"))


def test_images_that_were_left_out_stop_a_run_that_is_to_stop_at_them(tuned: Project, tmp_path: Path) -> None:
    project = tuned.copy_to(tmp_path / "project")
    path = sorted((project.root / "data/Colours/train/red").iterdir())[0]
    path.write_bytes(b"no image")
    project.set(resume="auto", epochs=5, bad_images="skip")
    assert "Left out 1 unreadable training image;" in project.run_well("train.py")
    project.set(epochs=6, bad_images="stop")
    done = project.run("train.py")
    assert done.returncode == 2
    assert done.stderr.startswith(f"./data/Colours/train/red/{path.name}: ")
    assert not list((project.root / TUNED).glob(".*.partial"))


def test_a_signal_while_outputs_are_computed_ends_the_run_at_once(tuned: Project, tmp_path: Path) -> None:
    """So far there is nothing to lose; the checkpoint that is there stays, and nothing half written."""
    project = tuned.copy_to(tmp_path / "project")
    (project.root / TUNED / "frozen_train.outputs").unlink()
    project.set(resume="auto", epochs=5)
    (project.root / "slow.py").write_text(SLOW)
    with project.start("slow.py") as process:
        for line in process.stdout:
            if line.startswith("computing"):
                os.kill(process.pid, signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 130
    assert rest.splitlines()[-1].startswith("Interrupted; training continues at its newest checkpoint")
    assert sorted(path.name for path in (project.root / TUNED).iterdir()) == [
        *(f"epoch_{epoch}.pth.tar" for epoch in (1, 2, 3, 4)),
        "frozen_valid.outputs",
    ]


def test_a_run_goes_on_with_the_blocks_it_began_with(tuned: Project, tmp_path: Path) -> None:
    project = tuned.copy_to(tmp_path / "project")
    project.set(resume=f"{TUNED}/epoch_4.pth.tar", epochs=5, frozen_blocks=9)
    expected = f"{TUNED}/epoch_4.pth.tar: trained with frozen_blocks = 14, not 9; set it back"
    assert project.refusal("train.py").startswith(expected)
