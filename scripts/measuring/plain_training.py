# SPDX-License-Identifier: Apache-2.0
"""A plain torchvision training loop or evaluation, as its users write it: the baseline of benchmark.py.

    python3 scripts/measuring/plain_training.py train TRAIN_FOLDER VALID_FOLDER [--epochs 1] [--image-size 224]
    python3 scripts/measuring/plain_training.py test FOLDER --weights FILE
    python3 scripts/measuring/plain_training.py fine-tune TRAIN_FOLDER VALID_FOLDER --start FILE --frozen-blocks 19

ImageFolder on Pillow, torchvision's transforms, DataLoader, an eager float32 network in NCHW. Training validates after
every epoch and saves the weights, as train.py does; it keeps no average of the weights and writes no curves. fine-tune
is the loop of PyTorch's tutorial on transfer learning, "ConvNet as fixed feature extractor", with larger batches.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def train_transform(image_size: int) -> transforms.Compose:
    """Random crop and flip: float [3, S, S], normalised."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(image_size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def eval_transform(image_size: int) -> transforms.Compose:
    """The central square of 7/8 of the short side: float [3, S, S], normalised."""
    return transforms.Compose(
        [
            transforms.Resize(round(image_size / 0.875)),
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def train(arguments: argparse.Namespace) -> None:
    train_set = ImageFolder(arguments.folder, train_transform(arguments.image_size))
    valid_set = ImageFolder(arguments.valid_folder, eval_transform(arguments.image_size))
    loading = {"batch_size": arguments.batch_size, "num_workers": arguments.workers, "persistent_workers": True}
    train_loader = DataLoader(train_set, shuffle=True, drop_last=True, **loading)
    valid_loader = DataLoader(valid_set, **loading)
    network = torchvision.models.mobilenet_v2(num_classes=len(train_set.classes))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=4e-5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, arguments.epochs * len(train_loader))
    for epoch in range(arguments.epochs):
        network.train()
        for images, targets in train_loader:
            loss = criterion(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        top1, top5 = evaluate(network, valid_loader)
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}, top-1 {top1} top-5 {top5} of {len(valid_set)}")
        torch.save(network.state_dict(), arguments.weights)


def fine_tune(arguments: argparse.Namespace) -> None:
    """Gradients for the classifier and the last blocks alone; everything is computed for each image in each epoch."""
    splits = {
        "train": ImageFolder(arguments.folder, train_transform(arguments.image_size)),
        "valid": ImageFolder(arguments.valid_folder, eval_transform(arguments.image_size)),
    }
    loading = {"batch_size": arguments.batch_size, "num_workers": arguments.workers, "shuffle": True}
    loaders = {name: DataLoader(split, **loading) for name, split in splits.items()}
    network = torchvision.models.mobilenet_v2(num_classes=len(splits["train"].classes))
    network.load_state_dict(torch.load(arguments.start, weights_only=True))
    network.features[: arguments.frozen_blocks].requires_grad_(False)
    criterion = nn.CrossEntropyLoss()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.001, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    best = -1
    for epoch in range(arguments.epochs):
        loss, hits = pass_once(network.train(), loaders["train"], criterion, optimizer)
        scheduler.step()
        valid_loss, valid_hits = pass_once(network.eval(), loaders["valid"], criterion, None)
        print(f"epoch {epoch + 1}: loss {loss:.4f}, {hits} right; validation {valid_loss:.4f}, {valid_hits} right")
        if valid_hits > best:
            best = valid_hits
            torch.save(network.state_dict(), arguments.weights)


def pass_once(
    network: nn.Module, loader: DataLoader[Any], criterion: nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[float, int]:
    """Train on all images, or score them: the sum of the loss over all images, and the hits."""
    loss_sum, hits = 0.0, 0
    for images, targets in loader:
        with torch.set_grad_enabled(optimizer is not None):
            logits = network(images)
            loss = criterion(logits, targets)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss_sum += loss.item() * len(targets)
        hits += int((logits.argmax(1) == targets).sum())
    return loss_sum, hits


def test(arguments: argparse.Namespace) -> None:
    dataset = ImageFolder(arguments.folder, eval_transform(arguments.image_size))
    network = torchvision.models.mobilenet_v2(num_classes=len(dataset.classes))
    network.load_state_dict(torch.load(arguments.weights, weights_only=True))
    loader = DataLoader(dataset, batch_size=arguments.batch_size, num_workers=arguments.workers)
    top1, top5 = evaluate(network, loader)
    print(f"top-1 {top1} top-5 {top5} of {len(dataset)}")


@torch.inference_mode()
def evaluate(network: nn.Module, loader: DataLoader[Any]) -> tuple[int, int]:
    """How many images have their class first, and among the first five."""
    network.eval()
    top1 = top5 = 0
    for images, targets in loader:
        logits = network(images)
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        top1 += (best[:, 0] == targets).sum().item()
        top5 += (best == targets[:, None]).any(dim=1).sum().item()
    return top1, top5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["train", "test", "fine-tune"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("valid_folder", type=Path, nargs="?")
    parser.add_argument("--weights", type=Path, required=True, help="read by test, written by train")
    parser.add_argument("--start", type=Path, help="weights that fine-tune begins with")
    parser.add_argument("--frozen-blocks", type=int, default=19, help="of 19, that fine-tune keeps")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    {"train": train, "test": test, "fine-tune": fine_tune}[arguments.mode](arguments)


if __name__ == "__main__":
    main()
