"""The health of a plan: checks that say in words what is wrong with it, or why they do not apply.

:mod:`.check` is what a check finds, :mod:`.subject` what is examined, and each other file a family of checks. A further check is a
function from a :class:`~.subject.Subject` to a :class:`~.check.Check`, and a name in :data:`~.examine.CHECKS`.
"""
