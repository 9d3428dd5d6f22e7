"""The most of anything that can be counted: beyond it a number is a slip, and sums of it no longer fit."""

MOST_TOKENS = 100_000_000
"""Tokens of one prompt or of one answer. All samples of a request, and all requests of a run, still add up within 64 bits."""

MOST_REQUESTS = 100_000_000
"""Requests of a run, users of a closed loop, calls in progress or waiting."""

MOST_KV_TOKENS = 10**12
"""Tokens of a replica's KV cache."""

MOST_IN_BATCH = 1_000_000
"""Sequences, or tokens, of a replica's batch: step times are tabulated up to it."""

MOST_REPLICAS = 10_000
"""Replicas of a pool."""

MOST_GPUS = 1024
"""GPUs of one replica."""

LEAST_RATE, MOST_RATE = 1e-9, 1e9
"""Requests per second: from one in thirty years to more than the world sends, so that times stay finite."""
