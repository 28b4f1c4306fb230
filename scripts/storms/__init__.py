# SPDX-License-Identifier: Apache-2.0
"""What kill_storm.py is made of: the storms and their record."""
