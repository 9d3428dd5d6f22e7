"""How a plan is found, and held to its promises.

``planning`` searches for each kind of policy and chooses among them; ``searching`` is one search: propose, look, tighten, verify.
``proposing`` holds the kinds of policy, a file each; ``looking`` simulates a proposal; ``optimism`` says how much of its promise is
hindsight. ``validating`` and ``cross_validating`` carry a plan out on problems that it has not seen.
"""
