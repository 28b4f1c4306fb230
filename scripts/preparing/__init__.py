# SPDX-License-Identifier: Apache-2.0
"""What prepare_dataset.py is made of: sources and how to read them, the folder that is filled, the target."""
