"""The actor of one leg of a connection: a pure decider, and an actor that carries out what it decides.

``state`` is the data, ``transitions`` decides, ``resume`` how a leg begins that continues another, ``endings`` what
every end consists of. Imports ``kernel`` and ``contract``.
"""
