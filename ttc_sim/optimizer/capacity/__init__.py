"""How many replicas of each pool, and on what: the cheapest that meet the scenario's targets under one policy.

``hardware`` says what may be chosen, ``bounds`` what no simulation can beat, ``trying`` simulates one choice, ``searching`` goes
through them from the cheapest on, and ``sizing`` puts them together and verifies the plan on fresh runs. What is chosen per pool is
a :class:`~ttc_sim.optimizer.capacity.hardware.Choice` and a number; a search over other settings of a pool takes no more than other
choices.
"""
