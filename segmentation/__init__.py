# SPDX-License-Identifier: Apache-2.0
"""Mobile DeepLabv3: a class for every pixel of a picture.

To be read in the order config, dataset, model, scoring, train. The loops are those of the train.py and test.py of the
folder above, which call these, by the Task in segmentation/train.py:

    dataset.MaskedImages  pictures and masks, with a class for each pixel or IGNORED
    model.DeepLabV3       logits for each pixel
    scoring.pixel_loss    what is trained on
    scoring.PixelScores   a confusion matrix of pixels, and from it the mean IoU
"""
