"""How processes that train are prepared and started: this one, and the workers of ``workers=local``.

Owns the environment a process gets, the shares of a machine, and what a supervisor and its workers tell each other.
Knows nothing of what a trial does.
"""

from embedsweep.launch.environment import LIBRARIES, end_at_once, prepare_process

__all__ = ["LIBRARIES", "end_at_once", "prepare_process"]
