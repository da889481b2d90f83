"""The attack table: inputs that once hurt others, against a real hub, with a bystander in another realm.

``python -m tests.attacks``. :mod:`.attackers` is what each row sends, from a process of its own; :mod:`.faults` what
happens around a hub; :mod:`.stage` measures who must not notice.
"""
