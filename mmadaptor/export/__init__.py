# SPDX-License-Identifier: Apache-2.0
"""Models outside of Python: ONNX and AOTInductor."""
