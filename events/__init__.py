"""The event log: what is recorded, where it is kept, how it is shipped to Kafka, read, folded and verified.

``model`` is the facts, ``state`` their fold, ``journal`` and ``kafka`` where they are kept, ``shipper`` the way from
one to the other, ``analysis`` what is learnt from them.
"""
