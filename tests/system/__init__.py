"""Real processes and sockets: what a user of the product would see, small in CI and at full size in ``make prove``."""
