# SPDX-License-Identifier: Apache-2.0
"""Every setting of segmentation/; names mean what they do in the classifier's, unless a comment says otherwise."""

import os

import torch

dataset_name = "scenes"  # only names the run; the pictures are those of data_dir
data_dir = ""  # "": scenes of digits; or a folder in the layout of Pascal VOC or COCO: docs/annotated_folders.md
exp_name = os.environ.get("EXP_NAME", f"DeepLabV3-{dataset_name}")  # names the folders in samples and results
seed = 0
device = "cuda" if torch.cuda.is_available() else "cpu"
precision = "auto"  # "float32", "tf32", "bfloat16", "float16"; "auto": the fastest of a GPU, float32 on a CPU
compile_model = False
deterministic = False
image_size = 128  # pixels a side, of the scenes too; at least 64; in inference of the short side

model_arch_name = "deeplab_v3"
model_width_mult = 0.5  # with pretrained weights theirs, usually 1.0
model_mean_parameters = [0.485, 0.456, 0.406]
model_std_parameters = [0.229, 0.224, 0.225]
model_num_classes = 11  # with the background; of Pascal VOC 21
model_output_stride = 8  # 16 takes a third of the time and sees less detail
model_padding = "symmetric"
model_batch_norm_eps = 1e-5

mode = os.environ.get("MODE", "train")

if mode == "train":
    train_scenes = 1440  # pictures of several digits, new ones in every epoch
    valid_scenes = 100  # of other digits
    train_split = "train"  # of data_dir, by the names of its lists or folders
    valid_split = "val"
    num_workers = 2
    bad_images = "stop"  # at an unreadable training image; "skip" leaves it out and counts it
    # Features of a classifier, or all weights of an earlier run: "" or a .pth / .pth.tar file.
    pretrained_model_weights_path = ""
    resume = ""  # as in the config.py of the classifier

    epochs = 5
    batch_size = 8
    gradient_accumulation_steps = 1  # the loss of each batch is divided by its own pixels that count
    model_lr = 0.2
    backbone_lr_factor = 1.0
    lr_warmup_epochs = 0.2
    model_momentum = 0.9
    model_weight_decay = 4e-5
    model_ema_decay = 0.99
    model_dropout = 0.0
    random_crop_scale = None  # (0.5, 1.0) for photos: least and largest share of the area; None: the whole picture
    random_flip_probability = 0.0  # left to right: 0.5 for photos, 0 for digits

    train_print_frequency = 50
    valid_print_frequency = 20
    sync_batch_norm = False
    checkpoint_every_minutes = 0
    keep_checkpoints = 3

if mode == "test":
    test_scenes = 500  # others than those of validation, of the same digits
    test_split = "val"  # of data_dir
    batch_size = 16
    num_workers = 2
    test_print_frequency = 20

model_weights_path = f"./results/{exp_name}/best.pth.tar"
inference_image_path = ""  # "" = scenes that no training has seen, if data_dir is "" too
