"""The log on disk: segments of Avro frames, written by a thread of its own, and read by anybody.

``journal`` is the owner in the loop's thread, ``writer`` the thread, ``files`` what there is on disk, ``reader`` reads.
Imports ``model`` and ``state``; knows nothing of Kafka.
"""
