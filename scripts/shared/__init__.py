# SPDX-License-Identifier: Apache-2.0
"""What the commands share, and the tests with them: command lines, small training runs, processes of the system."""
