# SPDX-License-Identifier: Apache-2.0
"""From trained weights to files for other runtimes: what scripts/export.py is made of."""
