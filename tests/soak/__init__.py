"""``make soak``: hubs and agents under churn, faults and attackers for long, and whether anything of them grows.

:mod:`.world` is what happens, :mod:`.samples` what is measured and the verdict, :mod:`.plot` draws it.
"""
