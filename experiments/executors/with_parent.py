"""Imported by a fork server before anything else: it ends when its driver does, whatever it is importing.

By itself it would look only when its imports are done. The kernel is asked (Linux); elsewhere it ends then.
"""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
