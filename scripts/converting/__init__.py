# SPDX-License-Identifier: Apache-2.0
"""What convert_weights.py is made of: reading a file of anyone's weights, and finding the network in it."""
