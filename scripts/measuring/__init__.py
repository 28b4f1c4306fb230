# SPDX-License-Identifier: Apache-2.0
"""What benchmark.py is made of: candidates that do the same work, and the timing of them."""
