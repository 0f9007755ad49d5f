"""The serving simulator: request by request, on virtual time.

`kernel` is the machine (compiled), `simulation` its owner, `sketch` the quantiles, `world` the cloud around it,
`drive` the loop of a contender, `reference` the same machine in plain Python, to be checked by eye.
"""
