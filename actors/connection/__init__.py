"""The actor of one leg of a connection: a pure decider, and an actor that carries out what it decides.

``state`` has the data; ``transitions`` has all decisions, except those at the start of a resume, which are in
``resume``; ``endings`` has the events and commands of every end. Imports ``kernel`` and ``contract``.
"""
