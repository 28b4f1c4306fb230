# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint a run goes on with, and what is never overwritten."""

import shutil
from pathlib import Path

import pytest
import torch
from checkpoint_files import assert_equal, read
from conftest import Project

from core.checkpoints import best_so_far, tell_changes
from core.picture_datasets import number_in_epoch
from core.picture_sources import SceneSource


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 2, "mixup_alpha": 0.2, "cutmix_alpha": 1.0, "gradient_accumulation_steps": 4},
        {"num_workers": 0, "precision": "bfloat16", "trivial_augment": True, "random_erasing_probability": 0.5},
    ],
)
def test_two_and_two_epochs_equal_four(project: Project, tmp_path_factory, options: dict) -> None:
    """The checkpoint of epoch 2 alone, as a killed run leaves it, leads to the bits of the uninterrupted run.

    So it does after another program has saved it again, which does not know its layouts, and with the counters of
    earlier versions, which were averaged too.
    """
    project.set(epochs=4, keep_checkpoints=4, **options)
    project.run_well("train.py")
    resumed = Project(tmp_path_factory.mktemp("resumed"))
    resumed.set(epochs=4, resume="auto", **options)
    middle = "samples/MobileNetV2-Colours/epoch_2.pth.tar"
    (resumed.root / middle).parent.mkdir(parents=True)
    save_as_others(read(project.root / middle), resumed.root / middle)
    printed = resumed.run_well("train.py")
    assert "epoch_2.pth.tar` after 2 of 4 epochs" in printed
    assert "Epoch: [2]" not in printed
    one, other = (read(run.root / "samples/MobileNetV2-Colours/epoch_4.pth.tar") for run in (project, resumed))
    for checkpoint in (one, other):
        for name in ("resume", "keep_checkpoints"):
            del checkpoint["config"][name]
    assert_equal(one, other)
    last = "results/MobileNetV2-Colours/last.pth.tar"
    assert_equal(read(project.root / last), read(resumed.root / last))


def save_as_others(checkpoint: dict, path: Path) -> None:
    momenta = [values["momentum_buffer"] for values in checkpoint["optimizer"]["state"].values()]
    assert not all(momentum.is_contiguous() for momentum in momenta)
    for momentum, values in zip(momenta, checkpoint["optimizer"]["state"].values(), strict=True):
        values["momentum_buffer"] = momentum.contiguous()
    for name in ("state_dict", "ema_state_dict"):
        checkpoint[name] = {key: value.contiguous() for key, value in checkpoint[name].items()}
    checkpoint["ema_state_dict"]["features.0.1.num_batches_tracked"].fill_(5)
    torch.save(checkpoint, path)


def test_resume_takes_the_newest_readable_checkpoint(trained_copy: Project) -> None:
    samples = trained_copy.root / "samples/MobileNetV2-Colours"
    expected = read(samples / "epoch_6.pth.tar")
    (samples / "epoch_6.pth.tar").write_bytes((samples / "epoch_6.pth.tar").read_bytes()[:5000])
    trained_copy.set(resume="auto")
    printed = trained_copy.run_well("train.py")
    assert "epoch_6.pth.tar: damaged" in printed
    assert "epoch_5.pth.tar` after 5 of 6 epochs" in printed
    resumed = read(samples / "epoch_6.pth.tar")
    for checkpoint in (expected, resumed):
        del checkpoint["config"]["resume"]
    assert_equal(expected, resumed)


def test_resume_names_changed_values_and_uses_them(trained_copy: Project) -> None:
    path = "samples/MobileNetV2-Colours/epoch_5.pth.tar"
    (trained_copy.root / "samples/MobileNetV2-Colours/epoch_6.pth.tar").unlink()
    trained_copy.set(resume=path, model_lr=0.05, epochs=7, model_weight_decay=0.0)
    printed = trained_copy.run_well("train.py")
    assert "Resume: model_lr was 0.02, now 0.05: the new value holds." in printed
    assert "Resume: epochs was 6, now 7: the new value holds." in printed
    optimizer = read(trained_copy.root / "samples/MobileNetV2-Colours/epoch_7.pth.tar")["optimizer"]
    groups = optimizer["param_groups"]  # kernels, then scales and biases, each of the blocks and of the classifier
    assert [group["initial_lr"] for group in groups] == [0.05] * 4
    assert [group["weight_decay"] for group in groups] == [0.0] * 4


def test_other_validation_images_have_a_best_score_of_their_own(trained_copy: Project) -> None:
    """That of the images before, higher than any can be now, would keep best.pth.tar for ever."""
    path = trained_copy.root / "samples/MobileNetV2-Colours/epoch_6.pth.tar"
    checkpoint = read(path)
    torch.save(checkpoint | {"best_acc1": 100.0}, path)
    trained_copy.set(resume="auto", epochs=7, num_workers=0, apply_orientation=True)
    printed = trained_copy.run_well("train.py")
    assert "Resume: with another apply_orientation the scores of validation do not compare with those before" in printed
    assert read(trained_copy.root / "results/MobileNetV2-Colours/best.pth.tar")["epoch"] == 7


@pytest.mark.parametrize(
    ("changes", "reset"),
    [
        ({}, False),
        ({"model_lr": 0.2, "train_split": "b"}, False),
        ({"image_size": 96}, True),
        ({"model_output_stride": 16}, True),  # another map
        ({"valid_split": "b"}, True),
        ({"valid_scenes": 20}, False),  # there is a folder, and no scene is read
        ({"data_dir": "other"}, False),  # the folder may have been moved
    ],
)
def test_what_other_tasks_validate_on_decides_whether_scores_compare(changes: dict, reset: bool) -> None:
    record = {"image_size": 64, "model_output_stride": 8, "valid_scenes": 10}
    record |= {"data_dir": "photos", "valid_split": "a", "train_split": "a"}
    assert best_so_far(50.0, record, record | changes) == (0.0 if reset else 50.0)


@pytest.mark.parametrize(
    ("epoch", "changes", "is_told"),
    [
        (2, {"train_scenes": 9}, True),  # epoch 2 had 20 to 29, and begins at 18 now
        (2, {"train_scenes": 10}, False),
        (2, {"train_scenes": 11}, False),
        (0, {"train_scenes": 9}, False),
        (2, {"train_scenes": 9, "data_dir": "photos"}, False),
    ],
)
def test_scenes_that_come_again_are_told(
    epoch: int, changes: dict, is_told: bool, capsys: pytest.CaptureFixture
) -> None:
    """Of a source without an end, scene `index` of an epoch is number epoch * train_scenes + index."""
    record = {"train_scenes": 10, "data_dir": ""}
    now = record | changes
    tell_changes(epoch, record, now)
    assert ("some scenes of the epochs before come again" in capsys.readouterr().out) == is_told
    if not now["data_dir"]:
        before, after = (SceneSource("train", values["train_scenes"], 64) for values in (record, now))
        seen = {number_in_epoch(before, past, index) for past in range(epoch) for index in range(len(before))}
        assert is_told == any(number_in_epoch(after, epoch, index) in seen for index in range(len(after)))


def test_finished_run_has_nothing_left_to_do(trained_copy: Project) -> None:
    """Nothing is printed of a training, for there is none: neither with what, nor what changed since."""
    trained_copy.set(resume="auto", model_lr=0.01, image_size=96, batch_size=10)
    before = trained_copy.snapshot()
    finished, board, *end = trained_copy.run_well("train.py").splitlines()
    assert finished.endswith("epoch_6.pth.tar` has finished all 6 epochs; nothing is left to train.")
    assert board.startswith("TensorBoard: ")
    assert [line.partition(" ")[0] for line in end] == ["Best", "Go"]
    assert trained_copy.snapshot() == before


def test_earlier_run_is_not_overwritten(trained_copy: Project) -> None:
    refusal = trained_copy.refusal("train.py")
    assert refusal.startswith("samples/MobileNetV2-Colours/epoch_6.pth.tar: of an earlier run")
    assert 'resume = "auto" (config.py line 53)' in refusal


def test_weights_of_an_earlier_run_are_not_overwritten(trained_copy: Project) -> None:
    shutil.rmtree(trained_copy.root / "samples")
    for resume in ("", "auto"):
        trained_copy.set(resume=resume)
        assert trained_copy.refusal("train.py").startswith(
            "results/MobileNetV2-Colours/last.pth.tar: of an earlier run"
        )


def test_nothing_is_overwritten_when_no_checkpoint_is_readable(trained_copy: Project) -> None:
    for path in (trained_copy.root / "samples/MobileNetV2-Colours").iterdir():
        path.write_bytes(b"damaged")
    trained_copy.set(resume="auto")
    assert "no checkpoint in it can be used" in trained_copy.refusal("train.py")


def test_going_back_does_not_mix_with_later_checkpoints(trained_copy: Project) -> None:
    trained_copy.set(resume="samples/MobileNetV2-Colours/epoch_3.pth.tar")
    refusal = trained_copy.refusal("train.py")
    assert refusal.startswith("samples/MobileNetV2-Colours/epoch_6.pth.tar: may be later than the 3 epochs")


def test_a_run_that_goes_on_elsewhere_leaves_the_run_there_alone(trained_copy: Project) -> None:
    name, path = "MobileNetV2-Colours", "samples/MobileNetV2-Colours/epoch_6.pth.tar"
    shutil.copytree(trained_copy.root / f"samples/{name}", trained_copy.root / "samples/other")
    trained_copy.set(resume=path, exp_name="other", epochs=7)
    refusal = trained_copy.refusal("train.py")
    assert refusal.startswith("samples/other/epoch_6.pth.tar: of an earlier run with exp_name = other")


def test_the_best_weights_of_a_run_are_those_of_its_own_epochs(trained_copy: Project) -> None:
    """The 100 % of the run that it goes on from would keep every epoch after the first out."""
    path = trained_copy.root / "samples/MobileNetV2-Colours/epoch_6.pth.tar"
    checkpoint = read(path) | {"best_acc1": 100.0}
    for key in ("state_dict", "ema_state_dict"):  # one answer for all three colours
        checkpoint[key]["classifier.1.weight"].zero_()
    torch.save(checkpoint, path)
    trained_copy.set(resume=str(path), exp_name="other", epochs=7, num_workers=0, model_lr=1e-6)
    printed = trained_copy.run_well("train.py")
    weights = trained_copy.root / "results/other/best.pth.tar"
    acc1 = read(weights)["acc1"]
    assert acc1 < 100
    assert f"Best {acc1:.3f}" in printed
    (trained_copy.root / "samples/other/epoch_7.pth.tar").unlink()  # killed before it was written
    torch.save(read(weights) | {"acc1": -1.0}, weights)
    assert f"Best {acc1:.3f}" in trained_copy.run_well("train.py")
    assert read(weights)["acc1"] == acc1
    shutil.rmtree(trained_copy.root / "samples/other")
    torch.save(read(weights) | {"epoch": 3}, weights)
    assert trained_copy.refusal("train.py").startswith("results/other/best.pth.tar: of an earlier run")


def test_checkpoints_of_earlier_versions_go_on_with_symmetric_padding(trained_copy: Project) -> None:
    path = trained_copy.root / "samples/MobileNetV2-Colours/epoch_6.pth.tar"
    checkpoint = read(path)
    for name in ("model_padding", "model_batch_norm_eps"):
        del checkpoint["config"][name]
    torch.save(checkpoint, path)
    trained_copy.set(resume="auto", epochs=7, num_workers=0, model_padding="same")
    assert ': trained with model_padding = "symmetric"; set config.py line ' in trained_copy.refusal("train.py")
    trained_copy.set(model_padding="symmetric", model_batch_norm_eps=1e-3)
    assert ": trained with model_batch_norm_eps = 1e-05; set config.py line " in trained_copy.refusal("train.py")
    trained_copy.set(model_batch_norm_eps=1e-5)
    assert "epoch_6.pth.tar` after 6 of 7 epochs" in trained_copy.run_well("train.py")
