"""The kernel: services, their states, and the one engine that moves them.

It knows no socket, no argv and no log backend. Read states.py first, then incarnation.py (one life of one
service), then operations.py (how many start and stop in order).
"""
