# SPDX-License-Identifier: Apache-2.0
"""SSDLite: the objects in a picture, each with a box, a class and a score.

To be read in the order config, dataset, model, scoring, train. The loops are those of the train.py and test.py of the
folder above, which call these, by the Task in detection/train.py:

    dataset.BoxDataset    pictures, and rows of their objects, with labels from 0
    dataset.take_targets  the rows that count, as torchvision takes them: labels from 1, as 0 is the background
    model.SSDLite         in training the losses, else outputs for all anchors; detections() chooses the objects
    scoring.BoxScores     their average precision, with labels from 0 again; inference.py draws them
"""
