"""What fits: memory is measured before it is spent, and running out of it is no end.

costs      what each phase holds, counted in small passes         planner    sizes from that and from what is free
tracker    the counting                                           halving    again in halves when memory runs out
device     what a device has left
"""

from squish_pl.memory.halving import Limit, out_of_memory, within
from squish_pl.memory.tracker import AllocationTracker, peak_bytes

# costs and planner know the policy, whose score knows the halving: import them from their own files
__all__ = ["AllocationTracker", "Limit", "out_of_memory", "peak_bytes", "within"]
