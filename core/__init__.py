# SPDX-License-Identifier: Apache-2.0
"""The machinery below the scripts."""
