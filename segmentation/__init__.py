# SPDX-License-Identifier: Apache-2.0
"""Mobile DeepLabv3: a class for every pixel of a picture."""
