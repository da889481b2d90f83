"""The actor of one leg of a connection: a pure decider, and an actor that carries out what it decides.

``state`` has the data, ``transitions`` all decisions but those of a resume's start, which ``resume`` has; ``endings``
has the events and commands of every end. Imports ``kernel`` and ``contract``.
"""
