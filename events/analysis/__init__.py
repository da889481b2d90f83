"""What can be learnt from a log: its order over all hubs, whether it is sound, numbers, lines, a conversation's story.

Pure but for ``source``, which opens what is read. Imports every other room of the events but ``shipper``.
"""
