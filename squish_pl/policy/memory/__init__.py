"""What fits: memory is measured before it is spent.

costs      what each phase holds, counted in small passes         plan       sizes from that and from what is free
tracker    the counting
"""
