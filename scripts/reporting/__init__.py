# SPDX-License-Identifier: Apache-2.0
"""From the files of test.py to one page: what scripts/report.py is made of."""
