# SPDX-License-Identifier: Apache-2.0
"""SSDLite: the objects in a picture, each with a box, a class and a score."""
