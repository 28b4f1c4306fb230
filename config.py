# SPDX-License-Identifier: Apache-2.0
"""Every setting of train.py, test.py and inference.py: edit this file, then run a script.

As shipped it trains on the embedded Digits dataset; README.md lists what to change for others.
"""

import os

import torch

# Shared by the three scripts.
dataset_name = "Digits"  # the folder data/<dataset_name>; also names the experiment
# Names the folders of a run: samples/<exp_name>, samples/logs/<exp_name>, results/<exp_name>.
exp_name = os.environ.get("EXP_NAME", f"MobileNetV2-{dataset_name}")
# A run is a function of the seed (>= 0), whatever workers and restarts; on GPUs and busy CPUs if deterministic = True.
seed = 0
# "cpu", "cuda" or "cuda:N".
device = "cuda" if torch.cuda.is_available() else "cpu"
# Arithmetic of convolutions: "float32", "bfloat16", on GPUs also "float16" (with loss scaling) and "tf32" (float32
# with factors of 10 bits; Ampere or later), or "auto": what trains fastest natively; float32 on the CPU. The 16-bit
# ones move about 3 answers in 100, in both directions: to publish an accuracy, measure it in "float32".
precision = "auto"
# True: torch.compile the network. Needs a C++ compiler and minutes at the start; rounds differently.
compile_model = False
# Side of the square the network sees, in pixels (>= 32); multiples of 32 use it best.
image_size = 32

# Network.
model_arch_name = "mobilenet_v2"  # the function of model.py that builds the network
model_width_mult = 1.0  # scales the channels of every layer; published: 0.35, 0.5, 0.75, 1.0, 1.3, 1.4
model_mean_parameters = [0.485, 0.456, 0.406]  # of each RGB channel, as shares of white; these are ImageNet's
model_std_parameters = [0.229, 0.224, 0.225]
# As many as class folders.
model_num_classes = 10

mode = os.environ.get("MODE", "train")  # "train" for train.py, "test" for test.py; inference.py takes both
# The two blocks below hold what only that script reads.


if mode == "train":
    # Folders of <class>/<image>; the second is scored after every epoch. ~ is your home, in all paths here.
    train_image_dir = f"./data/{dataset_name}/train"
    valid_image_dir = f"./data/{dataset_name}/valid"
    # About one per core; 0 loads in the main process. Changes the speed, never the batches.
    num_workers = 2
    bad_images = "stop"  # at an unreadable training image; "skip" leaves it out and counts it
    cache_images = False  # True keeps decoded images in memory: height x width x 3 bytes each, in each process

    # Start from these weights, "" or a .pth / .pth.tar file; a classifier of another size starts fresh.
    pretrained_model_weights_path = ""
    # Continue a run: "auto" takes the newest good checkpoint of samples/<exp_name> (none: it starts
    # afresh), a path takes that file, "" starts afresh and refuses to overwrite an earlier run.
    resume = ""

    epochs = 60
    batch_size = 64  # in each process, when torchrun starts several
    gradient_accumulation_steps = 1  # batches per optimizer step: n acts like n times the batch_size
    model_lr = 0.05  # peak rate, for 64 images a step; scale it with them. Too high: the loss becomes NaN
    lr_warmup_epochs = 3  # below epochs; linear from near 0, then a cosine down to 0
    model_momentum = 0.9  # Nesterov
    model_weight_decay = 4e-5  # of convolutions and classifier; never of batch-norm and biases
    model_ema_decay = 0.99  # share of the old average kept per step; 0.9999 averages 10,000 steps
    model_dropout = 0.2  # before the classifier
    loss_label_smoothing = 0.1  # share of the target spread over all classes

    # Augmentation. Crop: least and largest share of the area, None = the evaluation crop.
    random_crop_scale = (0.7, 1.0)
    random_flip_probability = 0.0  # mirrored digits are no digits; 0.5 for photos
    trivial_augment = False  # TrivialAugmentWide, arXiv:2103.10158
    random_erasing_probability = 0.0
    mixup_alpha = 0.0  # 0 = off; 0.2 is common. With cutmix too, each batch takes one of the two
    cutmix_alpha = 0.0  # 0 = off; 1.0 is common

    train_print_frequency = 10  # batches between two progress lines
    valid_print_frequency = 10
    sync_batch_norm = False  # True: batch-norm takes the images of all processes together
    checkpoint_every_minutes = 0  # also within an epoch; 0 = off. A signal always writes one
    keep_checkpoints = 3  # the newest epochs kept under samples/<exp_name>

if mode == "test":
    test_image_dir = f"./data/{dataset_name}/valid"
    batch_size = 64
    num_workers = 2
    # Batches between two progress lines.
    test_print_frequency = 10

# The weights that test.py scores and inference.py uses.
# Lines 30, 31, 32, 104 and 105 must be those the weights were trained with.
model_weights_path = f"./results/{exp_name}/best.pth.tar"

# What inference.py reads besides: the picture it classifies when none is given on the command line.
inference_image_path = "./figure/digit.png"
# JSON object from "0" on, or from class folders, to labels; "" takes the names stored in the weights file.
class_label_file = ""

# What all three scripts read besides.
# True turns each picture upright as its camera noted (the EXIF orientation); False takes the pixels as they are
# stored, as the published figures need. The weights remember which of the two they were trained with.
apply_orientation = False
# True: the same bits from every run on a GPU too, where some sums otherwise add up in another order each time; slower.
deterministic = False
# What else belongs to weights. Padding of the layers with a stride: "symmetric", as PyTorch's networks have it, or
# "same", as TensorFlow's do; the eps of batch-norm: 1e-5 in PyTorch's, 1e-3 in those of Keras and the paper's authors.
model_padding = "symmetric"
model_batch_norm_eps = 1e-5

if mode == "train":
    # Fine-tuning; docs/fine_tuning.md has a recipe for each size of dataset.
    # The first blocks of network.features that stay as pretrained: 0 trains everything, 14 the last five and the
    # classifier, 18 the last convolution and the classifier, 19 the classifier alone. What stays computes as in
    # evaluation; without augmentation once for each image, kept in samples/<exp_name>.
    frozen_blocks = 0
    cached_views = 0  # with augmentation: so many views of each image are kept, and taken in turn; 0 makes new ones
    backbone_lr_factor = 1.0  # the rate of the blocks, as a share of model_lr, which is that of the classifier
    class_weights = None  # "balanced": the loss allows for uneven classes, so that rare ones are not missed
