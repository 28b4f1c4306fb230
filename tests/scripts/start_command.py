# SPDX-License-Identifier: Apache-2.0
"""Run a script as `python3 FOLDER/SCRIPT.py ARGUMENTS` does, with its own folder in front of the others."""

import os
import runpy
import sys

del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
