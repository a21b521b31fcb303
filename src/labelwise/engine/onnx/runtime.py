"""ONNX Runtime, imported here alone, so that its telemetry is off before it could begin.

On Linux the runtime's own packages write an identifier of the machine below ``~/.cache/Microsoft``
and report to a host of Microsoft. Its `disable_telemetry_events` comes too late: what is in the
environment when the library is loaded counts.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["ort"]
