# SPDX-License-Identifier: Apache-2.0
"""What download_weights.py and score_published.py are made of: which weights are published, fetching, scoring."""
