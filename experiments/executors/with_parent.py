"""Imported by a fork server before anything else: it ends when its driver does, whatever it is importing.

By itself it would look only when its imports are done. The kernel is asked (Linux); elsewhere it ends then.
"""

import ctypes
import os
import signal
import sys

# Where a driver leaves its number for the fork server that it starts.
DRIVER = "MANIFOLD_LORA_DRIVER"
_PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = str(os.getppid())
    if os.environ.get(DRIVER, parent) != parent:  # it died before the kernel was asked
        os._exit(3)
