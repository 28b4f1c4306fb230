# SPDX-License-Identifier: Apache-2.0
"""What check_dataset.py is made of: the list of images, their inspection, the report."""
